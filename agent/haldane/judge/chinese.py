"""The judge's short phrases in Chinese, as patterns: notes, and doubts about servers.

They are written in English where they arise, so that logs and records hold one
form; this table turns them at the last moment. Order matters: longer first.
"""

PHRASES = (
    (
        r"no baseline: this is the model's first version, so absolute limits alone were judged",
        "没有基线：这是该模型的首个版本，因此只按绝对上限判定",
    ),
    (
        r"harm shown jointly after ([\d,]+) pairs: evidence (\S+) \(needed (\S+)\), from ",
        r"经过 \1 对合并证实有害：证据 \2（需要 \3），来自 ",
    ),
    (r"harm shown after ([\d,]+) pairs: ", r"经过 \1 对证实有害："),
    (r"; evidence (\S+) \(needed (\S+)\)", r"；证据 \1（需要 \2）"),
    (r"no harm beyond the margins, shown after ([\d,]+) pairs: ", r"经过 \1 对证实没有超出容限的损害："),
    (r"no estimate yet", "尚无法估计"),
    (r"no baseline; ", "没有基线；"),
    (r"nothing is missing", "没有欠缺"),
    (
        r"stable itself fails: ([\d,]+) of its last ([\d,]+) requests \(limit (\S+) %\), "
        r"and nothing is promoted against a sick baseline",
        r"稳定版本自身出错：最近 \2 个请求中有 \1 个失败（上限 \3%），基线异常时不予上线",
    ),
    (
        r"(\S+(?: \d+)?) is set aside as sick since pair ([\d,]+) \(([\d,]+) s\): ",
        r"\1 自第 \2 对（\3 秒）起因异常被搁置：",
    ),
    (r"(\S+(?: \d+)?) was set aside as sick for a time; ", r"\1 曾因异常被搁置；"),
    (r"stable itself fails there, ([\d,]+) of the last ([\d,]+)", r"稳定版本在其上自身出错，最近 \2 次中 \1 次"),
    (
        r"stable differs from itself there, ([\d,]+) of the last ([\d,]+)",
        r"稳定版本在其上与自身不一致，最近 \2 次中 \1 次",
    ),
    (r"([\d,]+) pairs not judged", r"\1 对未参与判定"),
    (
        r"the canary fails on (.+?) above all: ([\d,]+) of ([\d,]+) pairs there, ([\d,]+) of ([\d,]+) elsewhere",
        r"金丝雀的失败集中在 \1：那里 \3 对中 \2 对，其他服务器 \5 对中 \4 对",
    ),
    (r"typical latency relative to stable differs by replica: ", "各副本相对稳定版本的典型延迟不同："),
    (r"([\d,]+) pairs of the warm-up do not count for errors and latency", r"预热期的 \1 对不计入错误率和延迟"),
    (
        r"([\d,]+) pairs do not count for latency: a model was loading on their server",
        r"\1 对不计入延迟：当时其服务器正在加载模型",
    ),
    (r"([\d,]+) pairs failed on both sides and say nothing of the canary", r"\1 对两侧都失败，不能说明金丝雀的好坏"),
    (
        r"([\d,]+) of ([\d,]+) pairs \((\S+) %\) were lost: no such version, or no thread free",
        r"\2 对中有 \1 对（\3%）丢失：没有该版本，或没有空闲线程",
    ),
    (r"([\d,]+) of ([\d,]+) pairs \((\S+) %\) held readings that cannot be", r"\2 对中有 \1 对（\3%）含有不可能的读数"),
    (r"(.+?) never entered: it had no data when the metrics to judge were fixed", r"\1 未参与判定：确定指标时没有数据"),
    (r"(.+?) has given no data since pair ([\d,]+) \(([\d,]+) s\)", r"\1 自第 \2 对（\3 秒）起没有数据"),
)
