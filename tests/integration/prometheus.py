"""A strict reader of the Prometheus text format 0.0.4 (prometheus/docs exposition_formats.md).

read(text) gives {family: Family}; whatever a careful scraper would refuse, or promtool would warn of, is a
ValueError that names the line.
"""
import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL},)*{LABEL})\}})? (\S+)")
KINDS = ("counter", "gauge", "histogram")
ENDINGS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Family:
    def __init__(self, name, help_):
        self.name, self.help, self.kind = name, help_, None
        self.samples = {}  # (ending, ((label, value), ...)): value

    def values(self, ending=""):
        """{((label, value), ...): value} of the samples with that ending"""
        return {labels: v for (e, labels), v in self.samples.items() if e == ending}


def unescape(text):
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), text)


def number(text):
    if text in ("+Inf", "-Inf", "NaN"):
        return float(text.lower())
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        raise ValueError(f"not a number: {text}")
    return float(text)


def read_sample(line, family):
    found = SAMPLE.fullmatch(line)
    if not found or not family or not family.kind:
        raise ValueError("neither HELP, TYPE nor a sample of the family above")
    name, value = found[1], number(found[len(found.groups())])
    ending = name.removeprefix(family.name)
    if not name.startswith(family.name) or ending not in ENDINGS[family.kind]:
        raise ValueError(f"stands in family {family.name}")
    labels = tuple((n, unescape(v)) for n, v in re.findall(LABEL, found[2] or ""))
    names = [n for n, _ in labels]
    if len(set(names)) < len(names) or (("le" in names) != (ending == "_bucket")):
        raise ValueError("labels: one stands twice, or le where there is no bucket")
    if (ending, labels) in family.samples:
        raise ValueError("a series that stands twice")
    if family.kind == "counter" and not (value >= 0 and math.isfinite(value)):
        raise ValueError("a counter below zero")
    family.samples[ending, labels] = value


def check_histogram(family):
    groups = {}
    for (ending, labels), value in family.samples.items():
        rest = tuple(p for p in labels if p[0] != "le")
        group = groups.setdefault(rest, {"_bucket": [], "_sum": None, "_count": None})
        if ending == "_bucket":
            group["_bucket"].append((number(dict(labels)["le"]), value))
        else:
            group[ending] = value
    for rest, group in groups.items():
        edges = [e for e, _ in group["_bucket"]]
        counts = [c for _, c in group["_bucket"]]
        if not edges or edges[-1] != math.inf or edges != sorted(set(edges)):
            raise ValueError(f"{family.name}{rest}: the edges do not ascend to +Inf")
        if counts != sorted(counts) or counts[-1] != group["_count"] or group["_sum"] is None:
            raise ValueError(f"{family.name}{rest}: the buckets do not add up to the count")
        if (group["_count"] == 0) != (group["_sum"] == 0) and group["_count"] == 0:
            raise ValueError(f"{family.name}{rest}: a sum of nothing")


def read(text):
    families, family = {}, None
    if not text.endswith("\n"):
        raise ValueError("the last line does not end")
    for i, line in enumerate(text[:-1].split("\n"), 1):
        try:
            words = line.split(" ", 3)
            if line.startswith("# HELP "):
                if len(words) < 4 or not re.fullmatch(NAME, words[2]) or words[2] in families:
                    raise ValueError("a family without help, or for the second time")
                family = families[words[2]] = Family(words[2], words[3])
            elif line.startswith("# TYPE "):
                if not family or words[2] != family.name or family.kind or words[3] not in KINDS:
                    raise ValueError("TYPE stands once, behind its HELP")
                family.kind = words[3]
                if (family.kind == "counter") != family.name.endswith("_total"):
                    raise ValueError("counters, and only they, end in _total")
            else:
                read_sample(line, family)
        except ValueError as e:
            raise ValueError(f"line {i}: {e}: {line!r}") from None
    for family in families.values():
        if family.kind is None:
            raise ValueError(f"{family.name} has no TYPE")
        if family.kind == "histogram":
            check_histogram(family)
    return families
