"""Side by side with the stock trainer: the arithmetic by hand, and the whole in real processes."""

import json
import sys
from types import SimpleNamespace

import pytest

from benchmarks import ppo_vs_trl
from benchmarks.machine import Speed, floor_seconds
from benchmarks.ppo_sides import Job, in_micro_batches
from benchmarks.ppo_vs_trl import against_floor, growth_exponents, micro_batches, ratios, work_of

TINY = Job(hidden=16, layers=2, heads=2, vocab=50, batch=4, prompt=4, response=4, updates=1, epochs=2, minibatches=2,
           rank=2, window=4, micro_batch=2)  # fmt: skip


def test_growth_exponents_by_hand():
    linear = growth_exponents([64, 128, 256], [3.0, 6.0, 12.0])
    assert linear["steps"] == pytest.approx([1.0, 1.0]) and linear["all"] == pytest.approx(1.0)
    assert growth_exponents([1, 2], [5.0, 20.0])["all"] == pytest.approx(2.0)
    bent = growth_exponents([1, 2, 4], [1.0, 1.0, 4.0])
    assert bent["steps"] == pytest.approx([0.0, 2.0]) and bent["all"] == pytest.approx(1.0)


def test_the_memory_that_is_compared_is_the_gpus_where_there_is_one():
    ours, trl = {"episodes_per_s": 6.0, "peak_rss_mb": 10.0}, {"episodes_per_s": 2.0, "peak_rss_mb": 40.0}
    assert ratios(ours, trl) == {"speedup": 3.0, "memory_ratio": 0.25}
    assert ratios(ours | {"peak_gpu_mb": 1.0}, trl | {"peak_gpu_mb": 2.0})["memory_ratio"] == 0.5


def test_distance_from_the_floor_by_hand():
    speed = Speed(1e9, 1e9)
    least = floor_seconds(work_of(TINY), speed, 4)
    phases = {name: 3 * least[name] for name in ("rollout", "score", "update")}
    found = {
        "ours": {"seconds_per_update": 3 * least["total"], "phases": phases},
        "trl": {"seconds_per_update": 9 * least["total"], "phases": {}},
    }
    result = against_floor(found, TINY, speed)
    assert result["times"] == pytest.approx({"ours": 3.0, "trl": 9.0})
    assert result["times_by_part"] == pytest.approx({"rollout": 3.0, "score": 3.0, "update": 3.0})


def test_micro_batches_divide_a_minibatch_and_leave_the_stock_trainer_its_steps():
    assert micro_batches(TINY, "ours", []) == [1, 2]
    assert micro_batches(TINY, "ours", [2, 3, 4]) == [2]
    assert micro_batches(TINY, "trl", []) == [4]  # in one piece: one step a minibatch
    assert micro_batches(Job(batch=4), "trl", []) == [1, 2, 4]
    assert in_micro_batches(TINY, 2) == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}


@pytest.fixture
def made_up(monkeypatch):
    """Runs whose time and memory follow from the job; the processes are left out."""

    def run(jobs, rounds, folder):
        def of(side, job):
            seconds = job.response**2 * (1 if side == "ours" else 5) / (2 if job.dtype == "bf16" else 1)
            seconds += abs((job.micro_batch if side == "ours" else job.trl_micro_batch) - 2)
            return {"episodes_per_s": 1 / seconds, "seconds_per_update": seconds, "working_mb": 3.0 * job.response,
                    "peak_rss_mb": 100.0, "phases": {}}  # fmt: skip

        return {label: of(*which) for label, which in jobs.items()}

    made = []
    monkeypatch.setattr(ppo_vs_trl, "in_turns", run)
    monkeypatch.setattr(ppo_vs_trl, "make_models", lambda job, folder: made.append(job))
    monkeypatch.setattr(ppo_vs_trl, "machine_speed", lambda args, folder: {})
    return made


def test_a_sweep_measures_each_size_on_one_model_that_has_room_for_the_longest(made_up, tmp_path):
    args = SimpleNamespace(sweep=["response", "8", "4", "16"], sides=None, rounds=1)
    found = ppo_vs_trl.sweep(TINY, args, tmp_path)
    assert [row["response"] for row in found["rows"]["ours"]] == [4, 8, 16]
    assert found["growth"]["ours"]["seconds_per_update"]["all"] == pytest.approx(2.0)
    assert found["growth"]["ours"]["working_mb"]["steps"] == pytest.approx([1.0, 1.0])
    assert [job.response for job in made_up] == [16]


@pytest.mark.parametrize("native, variant", [(True, "bf16"), (False, "fp32")])
def test_best_takes_the_fastest_of_each_side(made_up, monkeypatch, tmp_path, native, variant):
    monkeypatch.setattr(ppo_vs_trl, "computes_in_bf16", lambda device: native)
    found = ppo_vs_trl.best(Job(batch=4, response=4), SimpleNamespace(rounds=1, best=[]), tmp_path)
    assert (found["ours"]["variant"], found["trl"]["variant"]) == (f"ours {variant} 2", f"trl {variant} 2")
    assert found["speedup"] == pytest.approx(5.0)
    assert len(found["tried"]) == (12 if native else 6)


@pytest.mark.parametrize("given", [["depth", "1", "2"], ["batch", "4"]])
def test_a_sweep_of_nothing_is_refused(monkeypatch, capsys, given):
    monkeypatch.setattr(sys, "argv", ["ppo_vs_trl", "--sweep", *given])
    with pytest.raises(SystemExit) as refused:
        ppo_vs_trl.parse()
    assert refused.value.code == 2 and "--sweep wants one of response, prompt, batch" in capsys.readouterr().err


@pytest.mark.slow
def test_both_sides_run_in_processes_of_their_own_and_the_result_has_what_is_promised(monkeypatch, tmp_path):
    sizes = [f"--{name.replace('_', '-')}={getattr(TINY, name)}" for name in vars(TINY) if name != "dtype"]
    result = tmp_path / "result.json"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    speed = {"speed": {"fp32": {"flops": 1e12, "bytes_per_s": 1e12}}}
    monkeypatch.setattr(ppo_vs_trl, "machine_speed", lambda args, folder: speed)  # test_machine.py
    monkeypatch.setattr(sys, "argv", ["ppo_vs_trl", *sizes, "--json", str(result)])
    ppo_vs_trl.main()
    found = json.loads(result.read_text())
    for side in ("ours", "trl"):
        assert found[side]["seconds_per_update"] == pytest.approx(TINY.batch / found[side]["episodes_per_s"])
        assert found[side]["peak_rss_mb"] > found[side]["working_mb"] > 0
        assert found["floor"]["times"][side] > 1
    assert found["speedup"] == pytest.approx(found["ours"]["episodes_per_s"] / found["trl"]["episodes_per_s"])
    assert found["ours"]["phases"].keys() == found["floor"]["times_by_part"].keys() == {"rollout", "score", "update"}
    assert sum(found["ours"]["phases"].values()) <= found["ours"]["seconds_per_update"]
    assert found["machine"] == speed and found["settings"]["hidden"] == 16
