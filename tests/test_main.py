"""The command line as a user meets it: real processes where that is cheap or the point, else main.main() in this one.

Whatever is wrong, there is one message on stderr, the right exit code, no traceback, and nothing half-written.
"""

import contextlib
import gzip
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import main

REPO = Path(__file__).parent.parent
STEPS = {"max_steps": 2, "per_device_train_batch_size": 2, "save_steps": 1, "disable_tqdm": True}
FINE_TUNING = STEPS | {"gradient_checkpointing": False}
ROOT = os.geteuid() == 0


def process(*args: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """A real `python main.py …`."""
    command = [sys.executable, str(REPO / "main.py"), *map(str, args)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120, **options)


def assert_one_message(code: int, err: str, *parts: str, expected_code: int = 2) -> None:
    """Exit code, exactly one message that opens with "error:" and holds the parts, and no traceback."""
    assert code == expected_code, err
    assert len(re.findall(r"^error: ", err, re.MULTILINE)) == 1, err
    assert "Traceback" not in err
    message = err[err.index("error: ") :]
    for part in parts:
        assert part in message, message


def left_behind(folder: Path) -> list[str]:
    """Half-written results."""
    return [str(path) for pattern in (".*.partial", ".*.old") for path in folder.rglob(pattern)]


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs main.main() here, from the repository; returns exit code and stderr."""
    monkeypatch.chdir(REPO)

    def run(*args: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        code = main.main([str(arg) for arg in args])
        return code, capsys.readouterr().err

    return run


class World:
    """A tiny configuration and its data; `out` holds a trained base and SFT model."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config, self.out = folder, folder / "world.yaml", folder / "out"
        self.demonstrations, self.pairs = folder / "demonstrations.jsonl", folder / "pairs.jsonl"
        rows = [{"prompt": f"What is {i} plus one?", "completion": f"It is {i + 1}."} for i in range(60)]
        self.write(self.demonstrations, rows)
        self.write(self.pairs, [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": "No."} for r in rows])
        self.config.write_text(yaml.safe_dump(self.values()))

    @staticmethod
    def write(path: Path, rows: list[dict[str, str]]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def values(self) -> dict:
        ppo = {key: value for key, value in FINE_TUNING.items() if key != "max_steps"}
        return {
            "model": {
                "shape": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_position_embeddings": 64},
                "vocab_size": 300,
                "device": "cpu",
            },
            "lora": {"phases": ["ppo"], "r": 2, "alpha": 4, "dropout": 0.0},
            "data": {
                "demonstrations": [str(self.demonstrations)],
                "preferences": [str(self.pairs)],
                "validation_fraction": 0.2,
                "test_fraction": 0.2,
                "max_prompt_tokens": 40,
                "max_response_tokens": 8,
            },
            "base": STEPS | {"block_tokens": 32},
            "sft": FINE_TUNING,
            "reward": FINE_TUNING,
            "ppo": ppo | {"total_episodes": 8, "num_mini_batches": 1, "num_ppo_epochs": 1, "eval_prompts": 0},
        }

    def args(self, phase: str, output: Path | None = None) -> list[str]:
        return ["--phase", phase, "--config", str(self.config), "--output", str(output or self.out)]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    for phase in ("base", "sft"):
        assert main.main(made.args(phase)) == 0
    return made


# --- the command line -----------------------------------------------------------------------------------------


def test_help_is_worth_reading_and_loads_no_library():
    script = "import sys, main\ntry: main.main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True)
    for part in (*main.PHASES, "DIR/rlhf_gpt_neo_model", "DIR/report", "configs/gpt-neo-125m.yaml", "README.md", "130"):
        assert part in done.stdout
    assert not {"torch", "transformers", "pydantic", "yaml"} & set(done.stderr.split())
    started = time.monotonic()
    assert process("--help").returncode == 0
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ([], ["--phase", "python main.py --help"]),
        (["--phase", "sft", "--fast"], ["--fast", "python main.py --help"]),
        (["--phase", "sft", "--set"], ["--set"]),
        (["--phase", "rewards"], ["Unknown phase 'rewards'", "base, sft, reward", "did you mean reward?"]),
        (["--phase", "sft", "--set", "ppo.kl_coef"], ["'ppo.kl_coef'", "section.key=value"]),
        (["--phase", "sft", "--set", "model.vocab_sise=500"], ["model.vocab_sise", "did you mean vocab_size?"]),
        (["--phase", "sft", "--set", "model.vocab_size=many"], ["model.vocab_size", "integer", "'many'"]),
        (["--phase", "sft", "--set", "data.demonstrations=dolyl"], ["Unknown source 'dolyl'", "did you mean dolly?"]),
        (["--phase", "sft", "--set", "data.demonstrations=made"], ["Unknown source 'made'"]),  # for pairs only
        (["--phase", "sft", "--set", "data.ood=[typo]"], ["Unknown source 'typo'", "did you mean typos?"]),
        (["--phase", "sft", "--set", "data.ood=[no/such.jsonl]"], ["No data file no/such.jsonl", "check the path"]),
        (["--phase", "sft", "--config", "configs/tinny.yaml"], ["configs/tinny.yaml", "configs/tiny.yaml"]),
        (["--phase", "sft", "--output", "main.py"], ["results to main.py", "main.py is a file"]),
        (["--phase", "sft", "--output", "main.py/x"], ["results to main.py/x", "main.py is a file"]),
    ],
)
def test_what_is_wrong_at_a_glance_is_refused_at_once(args, parts):
    done = process(*args)
    assert_one_message(done.returncode, done.stderr, *parts)
    assert done.stderr.startswith("error: ") and done.stdout == ""


def test_debug_shows_the_traceback():
    done = process("--phase", "sfy", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "UserError: Unknown phase 'sfy'" in done.stderr


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("ppo.kl_coeff=0.1", ["Unknown key ppo.kl_coeff", "did you mean kl_coef?"]),
        ("sft.learning_rte=0.1", ["Unknown key sft.learning_rte", "did you mean learning_rate?"]),
        ("reward.num_train_epochs=two", ["Bad value for reward.num_train_epochs", "'two'"]),
    ],
)
def test_a_slip_in_any_trainers_section_is_found_before_the_first_phase(world, command, tmp_path, override, parts):
    assert_one_message(*command(*world.args("base", tmp_path / "new"), "--set", override), *parts)
    assert not (tmp_path / "new").exists()


# --- phases that build on others ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "kept", "needed"),
    [
        ("sft", [], ["base"]),
        ("reward", [], ["base", "sft"]),
        ("reward", ["base"], ["sft"]),
        ("ppo", [], ["base", "sft", "reward"]),
        ("ppo", ["base", "sft"], ["reward"]),
        ("test", ["base", "sft"], ["reward"]),
    ],
)
def test_a_phase_names_the_commands_that_make_what_it_needs(world, command, tmp_path, phase, kept, needed):
    output = tmp_path / "with spaces"
    for name in kept:
        shutil.copytree(world.out / name, output / name)
    code, err = command(*world.args(phase, output), "--set", "test.pairs=9")
    assert_one_message(code, err, f"needs the result of phase {needed[-1]}")
    named = [shlex.split(part) for part in err.split("run: ")[1].split(", then ")]
    assert named == [["python", "main.py", *world.args(name, output), "--set", "test.pairs=9"] for name in needed]
    assert left_behind(output) == []


def test_the_servers_token_is_in_no_message(world, command, tmp_path):
    code, err = command(*world.args("ppo", tmp_path), "--set", "serve.token=a-secret", "serve.port=0")
    assert_one_message(code, err, "--set serve.port=0")
    assert "secret" not in err


def test_the_command_that_is_named_works(world, command, tmp_path):
    _, err = command(*world.args("sft", tmp_path))
    assert command(*shlex.split(err.split("run: ")[1])[2:])[0] == 0
    assert command(*world.args("sft", tmp_path))[0] == 0
    assert (tmp_path / "sft" / "model.safetensors").is_file()


def test_base_is_for_models_from_scratch(world, command, tmp_path):
    args = ["--set", "model.shape=null", "--set", f"model.name={world.out / 'base'}"]
    assert_one_message(*command(*world.args("base", tmp_path / "x"), *args), "from scratch", "--phase sft")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("seed=5", ["seed: 0 then, 5 now"]),
        ("data.max_prompt_tokens=30", ["data.max_prompt_tokens: 40 then, 30 now"]),
        ("model.shape.num_layers=2", ["model.shape", "num_layers: 1", "num_layers: 2"]),
    ],
)
def test_a_folder_of_another_configuration_is_left_alone(world, command, override, parts):
    before = sorted(world.out.rglob("*"))
    code, err = command(*world.args("sft"), "--set", override)
    assert_one_message(code, err, "was made with another configuration", "choose another --output", *parts)
    assert sorted(world.out.rglob("*")) == before


def test_what_no_training_depends_on_may_differ_from_then(world, command):
    different = ["--set", "data.ood=[typos]", "model.device=auto", "--set", "test.prompts=9"]
    assert_one_message(*command(*world.args("test"), *different), "needs the result of phase reward")


# --- data -----------------------------------------------------------------------------------------------------

GOOD = b'{"prompt": "Why?", "completion": "So."}\n'


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["is empty", "one JSON object a line"]),
        (b"\n\n", ["is empty"]),
        (
            gzip.compress(GOOD * 5000, mtime=0)[:-20],
            ["the compressed file is damaged", "expected", "found", "download it again"],
        ),
        (GOOD + b'{"prompt": "caf\xe9", "completion": "x"}\n', ["line 2", "UTF-8", "0xe9", "column 16"]),
        (GOOD + b"\n" + b'{"prompt": "Why?",\n', ["line 3", "not JSON", "one JSON object a line", '{"prompt"']),
        (GOOD + b'["Why?", "So."]\n', ["line 2", "not a JSON object", "['Why?', 'So.']"]),
        (GOOD + b'{"prompt": "Why?"}\n', ["line 2", "no 'completion'", "the keys 'prompt'"]),
        (GOOD + b'{"prompt": "Why?", "completion": 3}\n', ["line 2", "bad 'completion'", "a string", "3"]),
        (b'{"question": "Why?"}\n', ["line 1", "unknown row format", "prompt", "'question'"]),
    ],
)
def test_bad_data_is_named_by_file_and_line(world, command, tmp_path, content, parts):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    code, err = command(*world.args("base", tmp_path / "out"), "--set", f"data.demonstrations={path}")
    assert_one_message(code, err, str(path), *parts)
    assert not (tmp_path / "out").exists()


def test_a_pair_with_equal_sides_is_named(world, command):
    good = world.pairs.read_text()
    row = json.dumps({"prompt": "Why?", "chosen": "So.", "rejected": "So."})
    world.pairs.write_text(good + row + "\n")
    try:
        code, err = command(*world.args("reward"))
    finally:
        world.pairs.write_text(good)
    assert_one_message(code, err, f"{world.pairs}, line 61", "are equal", "two different replies", "'So.'", "remove")
    assert not (world.out / "reward").exists() and left_behind(world.out) == []


def test_a_prompt_that_is_too_long_is_cut_and_counted(world, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(REPO)
    rows = [{"prompt": f"What is {i}? " + "Say it. " * 100, "completion": "It is."} for i in range(60)]
    World.write(tmp_path / "long.jsonl", rows)
    for phase in ("base", "sft"):
        path = tmp_path / "long.jsonl"
        assert main.main([*world.args(phase, tmp_path / "out"), "--set", f"data.demonstrations={path}"]) == 0
    counts = re.search(r"'prompts': (\d+), 'prompts_cut': (\d+), 'longest_prompt': (\d+)", capsys.readouterr().out)
    prompts, cut, longest = map(int, counts.groups())
    assert prompts == cut > 20
    assert longest > 64  # more than the model's whole context


@pytest.mark.parametrize(
    ("override", "setting"),
    [
        ("data.max_prompt_tokens=57", "data.max_prompt_tokens + data.max_response_tokens at most 64"),
        ("base.block_tokens=65", "base.block_tokens at most 64"),
    ],
)
def test_more_tokens_than_the_context_are_refused_before_training(world, command, tmp_path, override, setting):
    code, err = command(*world.args("base", tmp_path / "out"), "--set", override)
    assert_one_message(code, err, "do not fit into the model's context", setting, "found: 65", "lower")
    assert not (tmp_path / "out").exists()


def test_more_tokens_than_a_pretrained_models_context_are_refused_too(world, command, tmp_path):
    pretrained = ["--set", "model.shape=null", "--set", f"model.name={world.out / 'base'}"]
    args = [*world.args("sft", tmp_path / "out"), *pretrained, "--set", "data.max_response_tokens=100"]
    assert_one_message(*command(*args), "do not fit into the model's context", "at most 64", "found: 140")
    assert not (tmp_path / "out").exists()


# --- the machine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model={name: EleutherAI/gpt-neo-125m}", "model.name"),
        ("data.demonstrations=[{source: dolly, name: databricks/databricks-dolly-15k}]", "path"),
    ],
)
def test_an_unreachable_hub_is_given_up_within_15_seconds(world, tmp_path, override, key):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never answers
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}", "HF_HOME": str(tmp_path / "cache")}
        started = time.monotonic()
        done = process(*world.args("sft", tmp_path / "out"), "--set", override, env=hub)
    assert time.monotonic() - started < 15
    assert_one_message(done.returncode, done.stderr, "cannot be reached", hub["HF_ENDPOINT"], "local folder", key)
    assert not (tmp_path / "out").exists()


def test_8_bits_without_bitsandbytes_say_what_to_install(world, tmp_path):
    script = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'bitsandbytes': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import main\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    changes = ["model.shape=null", f"model.name={world.out / 'base'}", "model.precision=8bit"]
    changes += ["lora.phases=[sft, reward, ppo]"]
    args = [*world.args("sft", tmp_path / "out"), *(part for change in changes for part in ("--set", change))]
    done = subprocess.run([sys.executable, "-c", script, *args], cwd=REPO, capture_output=True, text=True, timeout=120)
    assert_one_message(done.returncode, done.stderr, "needs the package bitsandbytes", "pip install bitsandbytes")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there(world, command, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, err = command(*world.args("base", tmp_path / "out"), "--set", "model.device=cuda")
    assert_one_message(code, err, "shows no GPU", "model.device=cpu")
    assert not (tmp_path / "out").exists()


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own on `folder`; skips the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not ROOT or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_an_output_that_is_not_writable(world, command, tmp_path):
    if ROOT:  # whom permissions do not stop
        with small_disk(tmp_path / "disk", "size=100k,ro") as disk:
            code, err = command(*world.args("base", disk / "out"))
    else:
        (tmp_path / "disk").mkdir(mode=0o500)
        code, err = command(*world.args("base", tmp_path / "disk" / "out"))
    assert_one_message(code, err, "Cannot write results", f"{tmp_path / 'disk'} is not writable", "--output")


@pytest.mark.parametrize("size", ["40k", "60k", "100k", "140k", "180k"])
def test_a_disk_that_fills_up_while_training(world, command, tmp_path, size):
    """Each size ends in another library's writing."""
    with small_disk(tmp_path / "disk", f"size={size}") as disk:
        code, err = command(*world.args("base", disk / "out"))
        assert_one_message(code, err, "The disk is full", "free some space")
        assert not (disk / "out" / "base").exists() and left_behind(disk) == []


def test_a_full_disk_leaves_the_result_of_before(world, command, tmp_path):
    with small_disk(tmp_path / "disk", "size=2m") as disk:
        shutil.copytree(world.out / "base", disk / "out" / "base")
        before = {path.name: path.read_bytes() for path in (disk / "out" / "base").iterdir()}
        room = shutil.disk_usage(disk).free - 60_000  # for the log, but not for the weights
        (disk / "ballast").write_bytes(b"x" * room)
        code, err = command(*world.args("base", disk / "out"), "--set", "base.save_strategy='no'")
        assert_one_message(code, err, "The disk is full")
        assert {path.name: path.read_bytes() for path in (disk / "out" / "base").iterdir()} == before
        assert left_behind(disk) == []


def test_a_file_that_may_not_grow_any_further(world, tmp_path):
    """A real process at its limit of file size, which any user can set."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))

    done = process(*world.args("base", tmp_path / "out"), preexec_fn=limit)
    assert_one_message(done.returncode, done.stderr, "The disk is full", "os error 27")
    assert not (tmp_path / "out" / "base").exists() and left_behind(tmp_path) == []


# --- Ctrl-C ---------------------------------------------------------------------------------------------------


def start(*args: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", str(REPO / "main.py"), *map(str, args)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=REPO, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_ctrl_c_while_training(world, tmp_path):
    forever = ["--set", "base.max_steps=1000000", "--set", "base.logging_steps=1", "--set", "base.disable_tqdm=false"]
    running = start(*world.args("base", tmp_path / "out"), *forever)
    with running:
        for line in running.stdout:
            if line.startswith("step 3/"):
                break
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert_one_message(running.returncode, err, "interrupted", "--resume", expected_code=130)
    assert not (tmp_path / "out" / "base").exists() and left_behind(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc to see what a process has loaded")
@pytest.mark.parametrize("library", ["libtorch_cpu", "tokenizers"])
def test_ctrl_c_while_the_libraries_are_loaded(world, tmp_path, library):
    running = start(*world.args("base", tmp_path / "out"))
    with running:
        maps, deadline = Path(f"/proc/{running.pid}/maps"), time.monotonic() + 60
        while library not in maps.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert_one_message(running.returncode, err, "interrupted", expected_code=130)
    assert err.startswith("error: ") and not (tmp_path / "out").exists()


# --- the configurations for a GPU -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_gpu_configuration_runs_every_phase_on_a_cpu_with_local_names(command, tmp_path):
    """In 8 bits, with LoRA, checkpointing and accumulation as configured; only the sizes are replaced."""
    from tests.phases.helpers import save_pretrained_gpt_neo

    save_pretrained_gpt_neo(tmp_path / "neo", hidden_size=32)
    categories = ("open_qa", "closed_qa", "brainstorming", "classification")
    rows = [
        {
            "instruction": f"What is {i} plus one?",
            "context": "" if i % 2 else f"Here is number {i}.",
            "response": f"It is {i + 1}. That is so.",
            "category": categories[i % 4],
        }
        for i in range(80)
    ]
    World.write(tmp_path / "dolly.jsonl", rows)
    changes = [
        f"model.name={tmp_path / 'neo'}",
        f"data.demonstrations=[{{source: dolly, path: {tmp_path / 'dolly.jsonl'}}}]",
        *("data.max_prompt_tokens=48", "data.max_response_tokens=8"),
        *("data.validation_fraction=0.2", "data.test_fraction=0.2"),
        *("sft.max_steps=2", "reward.max_steps=2"),
        *("ppo.total_episodes=16", "ppo.gradient_accumulation_steps=4", "ppo.num_ppo_epochs=1"),
        *("test.prompts=8", "test.bootstrap=100"),
    ]
    args = ["--phase", "all", "--config", "configs/gpt-neo-125m.yaml", "--output", str(tmp_path / "out")]
    code, err = command(*args, *(part for change in changes for part in ("--set", change)))
    assert code == 0, err
    for name in ("sft", "reward", "ppo"):
        adapter = json.loads((tmp_path / "out" / name / "adapter_config.json").read_text())
        assert set(adapter["target_modules"]) == {"q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"}
        assert adapter["base_model_name_or_path"] == str(tmp_path / "neo")
    report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert set(report["systems"]["SPP"]["ood"]) == {"typos", "paraphrase", "long_context", "held_out"}


def test_without_the_packages_it_says_how_to_install_them():
    code = "import runpy, sys; sys.modules['psutil'] = None; runpy.run_path('main.py', run_name='__main__')"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert_one_message(found.returncode, found.stderr, "psutil is not installed", "make venv")
