"""Both ways of the probe benchmark do the same, and its table is complete."""

import json

import pytest

from benchmarks import probes as benchmark

TINY = benchmark.Sizes(batch=2, tokens=8, clips=2, features=50, queries=32, repeats=1)


@pytest.mark.parametrize("depth", [1, 2])
def test_heads_together_answer_as_heads_alone(depth):
    assert benchmark.time_steps(TINY, depth).difference < 1e-4


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    output = tmp_path / "results" / "probes.json"
    assert benchmark.main(["--quick", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    document = json.loads(output.read_text())
    assert {"command", "hardware", "versions", "sizes", "rows"} <= set(document)
    assert len(document["rows"]) == 4
    for row in document["rows"]:
        assert row["work"].split(",")[0] in printed
        assert row["faster"] > 0
    kept, votes = document["rows"][2:]
    assert kept["difference"] == 0
    assert votes["difference"] < 1e-4
