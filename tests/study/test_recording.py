"""Recordings: samples, rates, thinning, and the file."""

import io
import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.errors import UsageError
from difffs.study import recording
from difffs.study.recording import Event, Recording, Sample

ROUTES = dict.fromkeys(recording.ROUTES, 0)

# of a mount that the small guest had been booted on
STATISTICS = json.loads("""
{"schema_version": 1, "recipe": "default",
 "pages": {"total": 30057, "zero": 11230, "same": 85, "identical": 1755, "patch": 3917,
           "compress": 10838, "raw": 2232},
 "bytes": {"logical": 123113472, "payload": 33411072, "slack": 917504, "metadata": 1011712,
           "stored": 35340288},
 "factor": 3.4836,
 "routes": {"zero": {"count": 20113}, "same": {"count": 301}, "identical": {"count": 2519},
            "patch": {"count": 7310}, "compress": {"count": 17342}, "raw": {"count": 2922}},
 "memory": {"daemon_rss": 62705664, "write_buffer": 8192, "page_cache": 36000000}}
""")


def at(seconds: float, routed: int) -> Sample:
    """A sample of which only time and work matter."""
    return Sample(seconds, routed * 4096, 4096, routed, {**ROUTES, "compress": routed}, 0, 0)


def test_a_sample_is_what_the_mount_tells() -> None:
    one = recording.sample(STATISTICS, 6.6, cached=132 << 20)
    assert one.total == STATISTICS["pages"]["total"]
    assert one.routed == 50507
    assert one.saving == pytest.approx(1 - 35340288 / 123113472)
    assert one.share("zero", "same", "identical") == pytest.approx(13070 / 30057)
    assert one.share(*recording.ROUTES) == 1
    assert (one.daemon_rss, one.write_buffer, one.cached) == (62705664, 8192, 132 << 20)


def test_an_empty_mount_saves_nothing() -> None:
    one = Sample(0.0, 0, 69632, 0, ROUTES, 0, 0)
    assert one.saving == 0
    assert one.share("zero") == 0


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    written = Recording("vm", {"system": "12"})
    with path.open("w") as file:
        written.begin(file)
        written.append(file, recording.sample(STATISTICS, 1.5))
        written.append(file, Event(2.0, "ready"))
        written.append(file, at(2.5, 7))
    found = Recording.read(path)
    assert found == written
    assert [one.seconds for one in found.samples] == [1.5, 2.5]
    assert recording.from_json([asdict(one) for one in found.samples]) == found.samples


def test_a_recording_that_was_cut_short_ends_before(tmp_path: Path) -> None:
    file = io.StringIO()
    written = Recording("vm")
    written.begin(file)
    written.append(file, at(1, 10))
    written.append(file, at(2, 20))
    path = tmp_path / "cut.jsonl"
    path.write_text(file.getvalue()[:-30])
    assert Recording.read(path).samples == [at(1, 10)]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "no JSON", '{"schema_version": 99, "name": "vm", "about": {}}', "\0\n{}"],
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_text(text)
    with pytest.raises(UsageError, match="other"):
        Recording.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.jsonl cannot be read"):
        Recording.read(tmp_path / "gone.jsonl")


def test_rates_are_those_of_the_time_between() -> None:
    samples = [at(0, 0), at(0.5, 1000), at(1, 9000), at(1.5, 9000), at(4, 10000)]
    assert recording.rate(samples[0], samples[1]) == 2000
    assert recording.mean_rate(samples) == 2500
    # 16,000 pages/s lasted half a second only
    assert recording.peak_rate(samples) == 9000


def test_a_run_shorter_than_a_peak_has_its_mean() -> None:
    assert recording.peak_rate([at(0, 0), at(0.5, 1000)]) == 2000
    assert recording.peak_rate([at(3, 5)]) == 0
    assert recording.peak_rate([]) == 0


steps = st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 10_000)), max_size=60)


def run_of(parts: list[tuple[float, int]]) -> list[Sample]:
    """Samples with those times and pages between them."""
    samples = [at(0, 0)]
    for seconds, pages in parts:
        samples.append(at(samples[-1].seconds + seconds, samples[-1].routed + pages))
    return samples


@given(steps)
def test_the_peak_is_the_highest_rate_that_lasted(parts: list[tuple[float, int]]) -> None:
    samples = run_of(parts)
    lasting = [
        recording.rate(a, b)
        for a in samples
        for b in samples
        if b.seconds - a.seconds >= recording.PEAK_SECONDS
    ]
    peak = recording.peak_rate(samples)
    assert peak >= recording.mean_rate(samples)
    if lasting:
        assert peak <= max(lasting)


@given(steps, st.integers(3, 20))
def test_thinning_keeps_order_and_both_ends(parts: list[tuple[float, int]], count: int) -> None:
    samples = run_of(parts)
    thinned = recording.thin(samples, count)
    assert len(thinned) <= count or thinned == samples
    assert thinned[0] is samples[0]
    assert thinned[-1] is samples[-1]
    places = [samples.index(one) for one in thinned]
    assert places == sorted(set(places))
    if len(samples) <= count:
        assert thinned == samples


def test_thinning_is_even() -> None:
    samples = [at(number / 10, number) for number in range(1001)]
    gaps = [b.seconds - a.seconds for a, b in pairwise(recording.thin(samples, 41))]
    assert len(gaps) == 40
    assert max(gaps) == pytest.approx(min(gaps))
