"""The rollout machine's sentences in Chinese.

A rollout's `why` is written once, in English, and stands so in log and records.
Each pattern here is a whole sentence of the machine or the planner; what it
quotes is turned in turn. What a person wrote, or a server said, is no pattern
and stays as it was written.
"""

import re

from haldane.judge.explain import in_words

_MACHINE = (
    (r"recommends promoting version (\d+): (.+)", "建议上线版本 {0}：{1}"),
    (r"recommends withdrawing version (\d+): (.+)", "建议撤回版本 {0}：{1}"),
    (r"closed, no server was changed; (.+)", "已关闭，没有更改任何服务器；{0}"),
    (r"version (\d+) is awaited on every server", "等待所有服务器出现版本 {0}"),
    (r"version (\d+) is to be loaded on every server", "所有服务器都将加载版本 {0}"),
    (r"version (\d+) is loaded and proven on every server", "版本 {0} 已在所有服务器上加载并验证"),
    (r"version (\d+) is loaded, proven and labelled on every server", "版本 {0} 已在所有服务器上加载、验证并打上标签"),
    (r"version (\d+) is stable on every server", "版本 {0} 已是所有服务器上的稳定版本"),
    (r"stable is version (\d+) on every server", "所有服务器上的稳定版本都是版本 {0}"),
    (r"next servers?: (.+)", "接下来的服务器：{0}"),
    (r"never began: (.+)", "未能开始：{0}"),
    (r"not loaded after (\d+) seconds: (.+)", "{0} 秒后仍未加载：{1}"),
    (r"a server did not follow: (.+)", "有服务器没有跟上：{0}"),
    (r"a server that joined the fleet did not follow: (.+)", "新加入的服务器没有跟上：{0}"),
    (r"a server cannot be turned back: (.+)", "有服务器无法恢复：{0}"),
    (r"a gateway did not follow: (.+)", "有网关没有跟上：{0}"),
    (r"a gateway cannot be turned back: (.+)", "有网关无法恢复：{0}"),
    (r"the canary's servers give users version (\d+)", "金丝雀服务器已向用户提供版本 {0}"),
    (r"no harm shown by (\d+) pairs in (\d+) seconds at (\S+ %)", "在 {2} 流量下，{1} 秒内 {0} 个请求对没有显示损害"),
    (r"next step: (\S+ %)", "下一步：{0}"),
    (r"the step is done", "该步骤已完成"),
    (r"the step begins anew: (.+)", "该步骤重新开始：{0}"),
    (r"the step was not taken: (.+)", "该步骤没有生效：{0}"),
    (r"not enough evidence after (\d+) seconds at (\S+ %): (.+)", "在 {1} 流量下 {0} 秒后证据仍不足：{2}"),
    (r"(\d+) of (\d+) pairs came", "只收到 {1} 个请求对中的 {0} 个"),
    (r"gateway (\S+): (.+)", "网关 {0}：{1}"),
    (r"sends (\S+ %) to the canary's servers, not (\S+ %)", "把 {0} 的调用发给金丝雀服务器，而不是 {1}"),
    (
        r"gateway: the config has none any more, though this rollout goes by steps of traffic",
        "配置中已没有网关，但此次发布按流量步骤进行",
    ),
    (r"labels that came after version (\d+) was promoted show harm: (.+)", "版本 {0} 上线之后到达的标签显示有害：{1}"),
    (r"no baseline; (.+)", "没有基线；{0}"),
    (r"no rollout of version (\d+) has been started", "尚未开始版本 {0} 的上线流程"),
    (r"no rollout of version (\d+) was started: (.+)", "没有为版本 {0} 启动上线流程：{1}"),
    (r"version (\d+) was announced too", "版本 {0} 也已公布"),
    (r"version (\d+) is stable already", "版本 {0} 已是稳定版本"),
    (r"version (\d+) is older than stable, which is (\d+)", "版本 {0} 比稳定版本 {1} 更旧"),
    (r"a person may start it by hand", "可由人手动启动"),
    (r"its promotion was taken back: (.+)", "其上线已被撤回：{0}"),
    (r"every server is settled", "所有服务器都已就绪"),
    (r"passed; (.+)", "已通过；{0}"),
    (r"waits for approval \((\d+) of (\d+)\)", "等待批准（{0}/{1}）"),
    (r"waits for (.+), which joined the fleet", "等待新加入的服务器 {0}"),
    (r"frozen until (.+?): (.+)", "冻结至 {0}：{1}"),
    (r"approved by ([^;]+); (.+)", "由 {0} 批准；{1}"),
)
_FILES = (
    (r"it does not answer as when it was validated: (.+)", "其应答与验证时不同：{0}"),
    (r"version (\d+) is not what was published: (.+)", "版本 {0} 与发布时不一致：{1}"),
    (r"(\S+) has changed", "{0} 已被改动"),
    (r"(\S+) is missing", "缺少 {0}"),
    (r"(\S+) was not there when it was validated", "{0} 在验证时并不存在"),
    (r"published by (.+) at (\S+)", "由 {0} 于 {1} 发布"),
    (r"there is no record of it in (\S+); that has (.+)", "{0} 中没有它的发布记录；那里有 {1}"),
    (
        r"where its versions lie is not known; give model_config_file",
        "不知道其版本存放在哪里；请提供 model_config_file",
    ),
    (r"the servers' storage cannot be read from here", "从这里读不到服务器的存储"),
)
_PLANNER = (
    (r"as wanted", "符合要求"),
    (r"both versions are loaded", "两个版本都已加载"),
    (r"as (\S+): (.+)", "以名称 {0}：{1}"),
    (r"it should be there", "应有该名称"),
    (r"(\S+) waits: (.+)", "{0} 在等待：{1}"),
    (r"version (\d+) is not available as (\S+) yet", "版本 {0} 尚不能以名称 {1} 使用"),
    (r"version (\d+) is not proven as (\S+) yet", "版本 {0} 尚未以名称 {1} 通过验证"),
    (
        r"the files of version (\d+) have not been compared with their manifest yet",
        "版本 {0} 的文件尚未与其清单比对",
    ),
    (
        r"rollout (\S+) is live there too, and its rollback must find the server's reload lock free",
        "上线流程 {0} 也在那里进行，它回滚时服务器的重新加载锁必须空闲",
    ),
    (r"could not be seen", "看不到"),
    (r"(could not be seen|not both versions loaded|version .+?|label .+?) \((.+)\)", "{0}（{1}）"),
    (r"not both versions loaded", "两个版本没有都加载"),
    (r"version (\d+) failed to load: (.+)", "版本 {0} 加载失败：{1}"),
    (r"version (\d+) loaded but cannot answer: (.+)", "版本 {0} 已加载但无法应答：{1}"),
    (r"version (\d+) is not available yet", "版本 {0} 尚不可用"),
    (r"version (\d+) is not proven yet", "版本 {0} 尚未验证"),
    (r"version (\d+) should be loaded", "应加载版本 {0}"),
    (r"version (\d+) should be unloaded", "应卸载版本 {0}"),
    (r"label (\S+) should not be set", "不应设置标签 {0}"),
    (r"label (\S+) should be (\d+), is unset", "标签 {0} 应指向 {1}，现在未设置"),
    (r"label (\S+) should be (\d+), is (\d+)", "标签 {0} 应指向 {1}，现在指向 {2}"),
    (r"unversioned requests are answered by (\S+), not (\d+)", "未指定版本的请求由版本 {0} 应答，而不是 {1}"),
    (r"waiting for versions to be available and proven: (.+)", "等待版本可用并通过验证：{0}"),
    (r"this agent runs in observe mode and changes no server", "本代理处于观察模式，不更改任何服务器"),
)
_NOT_STARTED = (  # why nothing came of an announcement, or a start was refused
    (
        r"users were given (\d+) versions within a day and taken back \((.+)\); a person must start the next",
        "一天之内向用户提供过 {0} 个版本，又都撤回了（{1}）；下一个须由人启动",
    ),
    (
        r"rollout (\S+) withdrew version (\d+), which has the same files \(content (\S+)\)",
        "上线流程 {0} 撤回过版本 {1}，其文件与之相同（内容 {2}）",
    ),
    (r"rollout (\S+) withdrew version (\d+)", "上线流程 {0} 撤回过版本 {1}"),
    (r"publish other files under a new number, or (.+)", "请用新的版本号发布不同的文件，或{0}"),
    (r"rollout (\S+) of this version is under way", "该版本的上线流程 {0} 正在进行"),
    (r"rollout (\S+) of version (\d+) is (\S+)", "版本 {1} 的上线流程 {0} 处于 {2}"),
    (r"rollout (\S+) of this model is (\S+)", "该模型的上线流程 {0} 处于 {1}"),
    (r"abort it or wait for its end", "请中止它，或等它结束"),
    (r"version (\d+) was announced, which supersedes it", "版本 {0} 已公布，取代了它"),
    (r"(models\.\S+\.releases) is no longer in the config", "配置中已没有 {0}"),
    (r"nothing can be proven or judged without requests; set (\S+)", "没有请求就无法验证或判定；请设置 {0}"),
    (r"no server shows which version is stable; set (\S+)", "没有服务器显示哪个版本是稳定版本；请设置 {0}"),
    (
        r"clients that name no version get the first one the moment it is loaded, so it cannot be judged before",
        "不指定版本的客户端在首个版本加载后立即会用到它，因此无法事先判定",
    ),
    (
        r"(\S+) is not seen to have version (\d+): Serving's own file loads a first version",
        "未看到 {0} 有版本 {1}：首个版本由 Serving 自己的配置文件加载",
    ),
    (
        r"clients that name no version get the highest one loaded, so none would get version (\d+) before (\d+)"
        r" is gone, and then all at once",
        "不指定版本的客户端总是用到已加载的最高版本，因此在版本 {1} 卸载之前无人会用到版本 {0}，卸载之后则全部同时用到",
    ),
    (r"publish its files under a number above (\d+)", "请用高于 {0} 的版本号发布这些文件"),
    (r"(-?\d+) is not a version: Serving knows 0 to (\d+)", "{0} 不是版本号：Serving 只有 0 到 {1}"),
    (r"version (\d+) failed to load on (\S+) before \((\S+)\)", "版本 {0} 曾在 {1} 上加载失败（{2}）"),
    (
        r"Serving does not try a number again, so publish it under a new one",
        "Serving 不会重试同一版本号，请用新的版本号发布",
    ),
    (
        r"rollout (\S+) goes by steps of traffic through the same gateways; wait for its end",
        "上线流程 {0} 正通过同一批网关按流量步骤进行；请等它结束",
    ),
    (
        r"gateway (\S+) sends (\S+ %) of the calls to the canary's servers already; at rest that must be 0",
        "网关 {0} 已把 {1} 的调用发给金丝雀服务器；平时必须为 0",
    ),
    (
        r"its canary gets a name of its own, and while a server takes that up no other reload is heard there:"
        r" rollout (\S+) is (\S+); wait for its end, or abort it",
        "其金丝雀将有单独的名称，服务器接受该名称期间不会处理其他重新加载：上线流程 {0} 处于 {1}；请等它结束，或中止它",
    ),
    (
        r"rollout (\S+) gives its canary a name of its own, and no other reload is heard meanwhile;"
        r" start it when that one is SHADOWING",
        "上线流程 {0} 正在给其金丝雀单独的名称，期间不会处理其他重新加载；请等它进入影子阶段再启动",
    ),
    (r"(.+), with the second copy that its canary's own name takes", "{0}，另加其金丝雀单独名称所需的一份"),
    (r"there is no room for it; (.+)", "内存不够；{0}"),
    (r"version (\d+) needs (.+?) \((.+?)\), (.+?) of (.+?) are free", "版本 {0} 需要 {1}（{2}），{4} 中只剩 {3}"),
    (r"as measured when it was validated", "验证时测得"),
    (r"(\S+) times its files, as measured of version (\d+)", "其文件的 {0} 倍，按版本 {1} 的实测"),
    (r"by Serving's own estimate, 1\.2 times its files", "按 Serving 自己的估计，为其文件的 1.2 倍"),
    (r"(\S+) has just left the fleet", "{0} 刚刚离开"),
    (r"server (\S+) has not been looked at yet", "还没有查看过服务器 {0}"),
    (
        r"the store's lease, the right to act, is not held: another agent holds it, or the store is away; see the log",
        "未持有存储的租约，即操作权：另一个代理持有它，或存储不可用；请看日志",
    ),
    (
        r"(\S+) has no metrics_url, so it cannot be known which models a reload would unload;"
        r" set servers\[\]\.metrics_url and start the server with --monitoring_config_file",
        "{0} 没有 metrics_url，因此无法知道重新加载会卸载哪些模型；请设置 servers[].metrics_url，"
        "并用 --monitoring_config_file 启动该服务器",
    ),
    (
        r"(\S+) shows no metrics page at (\S+); start it with --monitoring_config_file",
        "{0} 在 {1} 没有指标页面；请用 --monitoring_config_file 启动它",
    ),
    (r"its models could not be checked before the first reload: (.+)", "首次重新加载之前无法检查其模型：{0}"),
    (
        r"(\S+) serves model (\S+) \(version (\S+)\): a canary of ours would take that name \(placement: second_name\),"
        r" and no rollout under way has introduced this one; take it out of that server's config, or choose another"
        r" placement",
        "{0} 提供模型 {1}（版本 {2}）：我们的金丝雀要用这个名称，而正在进行的上线流程都没有引入它；"
        "请从该服务器的配置中去掉它，或让金丝雀以别的方式运行",
    ),
    (
        r"(\S+) serves model (\S+) \(version (\S+)\), which the config lacks",
        "{0} 提供模型 {1}（版本 {2}），而配置中没有它",
    ),
    (
        r"(\S+) loaded (\S+), which no model of the config has as base path",
        "{0} 加载了 {1}，配置中没有模型以它为 base path",
    ),
    (
        r"add it with `haldane adopt`, or point model_config_file at this server's own config",
        "请用 `haldane adopt` 添加它，或把 model_config_file 指向该服务器自己的配置",
    ),
)
_JUDGE = r"(harm shown |no harm beyond the margins|the budget of |the horizon of |no more pairs will come).*"


def in_chinese(english: str) -> str | None:
    """The sentence in Chinese; None when it is nobody's pattern: a person's words, or a server's."""
    if re.fullmatch(_JUDGE, english, re.DOTALL):
        return in_words(english, "zh")
    for pattern, form in (*_NOT_STARTED, *_MACHINE, *_FILES, *_PLANNER):
        if found := re.fullmatch(pattern, english, re.DOTALL):
            return form.format(*(in_chinese(quoted) or quoted for quoted in found.groups()))
    parts = [in_chinese(part) for part in english.split("; ")] if "; " in english else []
    if parts and None not in parts:
        return "；".join(part for part in parts if part)
    name, _, rest = english.partition(": ")  # a server's or a model's
    chinese = in_chinese(rest) if rest and " " not in name else None
    return None if chinese is None else f"{name}：{chinese}"
