"""The metrics page, line by line."""

from haldane.sandbox.metrics import Metrics, page_name


def _lines(metrics: Metrics, prefix: str) -> list[str]:
    return [line for line in metrics.page().splitlines() if line.startswith(prefix)]


def test_an_idle_page_is_bare_type_lines_and_ends_with_a_newline() -> None:
    page = Metrics().page()
    assert page.endswith("\n")
    assert all(line.startswith("# TYPE :") for line in page.splitlines())
    assert "# TYPE :tensorflow:serving:request_latency histogram" in page
    assert ":batching_session:input_batch_size" not in page


def test_families_are_sorted_by_name() -> None:
    names = [line.split()[2] for line in Metrics().page().splitlines()]
    assert names == sorted(names)
    assert len(names) == len(set(names)) > 150


def test_requests_are_counted_by_model_and_status_sorted_by_label_values() -> None:
    metrics = Metrics()
    metrics.count_request("toy", "OK")
    metrics.count_request("toy", "NOT_FOUND")
    metrics.count_request("", "INVALID_ARGUMENT")
    metrics.count_request("toy", "OK")
    assert _lines(metrics, ":tensorflow:serving:request_count") == [
        ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="toy",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_count{model_name="toy",status="OK"} 2',
    ]


def test_a_latency_histogram_has_34_cumulative_buckets_and_six_digits() -> None:
    metrics = Metrics()
    for micros in (5, 18, 5_000_000):
        metrics.observe_request_latency("m", "Predict", "GRPC", micros)
    lines = _lines(metrics, ":tensorflow:serving:request_latency")
    labels = 'model_name="m",API="Predict",entrypoint="GRPC"'
    buckets = [line for line in lines if "_bucket" in line]
    assert len(buckets) == 34
    assert buckets[0].endswith("_bucket{" + labels + ',le="10"} 1')
    assert buckets[1].endswith('le="18"} 1'), "an upper bound is exclusive"
    assert buckets[2].endswith('le="32.4"} 2')
    assert any('le="1.27482e+06"' in line for line in buckets)
    assert buckets[-1].endswith('le="+Inf"} 3')
    assert lines[-2] == ":tensorflow:serving:request_latency_sum{" + labels + "} 5.00002e+06"
    assert lines[-1] == ":tensorflow:serving:request_latency_count{" + labels + "} 3"


def test_series_without_labels_keep_their_empty_braces() -> None:
    metrics = Metrics()
    metrics.observe_batch(2, 2)
    metrics.observe_input_size(0)
    metrics.observe_input_size(2)
    page = metrics.page()
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1\n" in page
    assert ':tensorflow:serving:batching_session:padding_size_count{execution_batch_size="2"} 1\n' in page
    assert ":tensorflow:serving:batching_session:input_batch_size_count{} 2\n" in page


def test_quotes_and_backslashes_are_escaped_and_newlines_are_not() -> None:
    metrics = Metrics()
    metrics.count_request('a"b\\c\nd', "OK")
    assert ':tensorflow:serving:request_count{model_name="a\\"b\\\\c\nd",status="OK"} 1\n' in metrics.page()


def test_the_first_value_is_that_of_the_first_series_and_zero_for_anything_else() -> None:
    metrics = Metrics()
    metrics.count_request("b", "OK")
    metrics.count_request("b", "OK")
    metrics.count_request("a", "OK")
    assert metrics.first_value("/tensorflow/serving/request_count") == 1
    assert metrics.first_value("/tensorflow/serving/request_latency") == 0
    assert metrics.first_value("/no/such") == 0


def test_a_page_name_has_colons_for_slashes() -> None:
    assert page_name("/tensorflow/serving/request_count") == ":tensorflow:serving:request_count"
