from haldane.engine.share import Share, whole


def test_every_place_belongs_to_one_of_them():
    shares = [Share(index, 3, lambda: 0) for index in range(3)]
    assert [[share.index for share in shares if share.takes(place)] for place in range(7)] == [
        [0], [1], [2], [0], [1], [2], [0]
    ]  # fmt: skip


def test_numbers_ascend_though_the_clock_stands_still_and_never_fall_below_the_border():
    now = [100]
    share = Share(0, 1, lambda: now[0])
    assert [share.number(), share.number()] == [100, 101]
    now[0] = 200
    assert (share.border, share.number(), share.border) == (200, 200, 201)
    now[0] = 150  # a clock that was set back
    assert share.number() == 201


def test_one_sender_numbers_on_from_the_log():
    share = whole(7)
    assert (share.border, share.number(), share.number(), share.border) == (7, 7, 8, 9)
    assert share.sent == 2
