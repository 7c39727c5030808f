"""Post-training by two processes over gloo: encoding, learning and planning are shared, the result is one's."""

import os
import subprocess
import sys

import pytest
import torch
import yaml

from models.checkpoint import load_world_model
from models.model_folder import save_encoder
from training.latent_cache import complete_shards, open_cache
from training.log import read_table


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_and_judge_as_one(encoder, shards, make_recipe, tmp_path, strategy):
    save_encoder(encoder.network, tmp_path / "encoder")
    recipe = make_recipe(
        batch_size=4,
        micro_batch_size=2,
        data=dict(strides=[1, 2], held_out=0.3),
        run=dict(
            device="cpu",
            precision="fp32",
            strategy=strategy,
            log_every=1,
            save_every=2,
            validate_every=2,
        ),
        validation=dict(windows=4, segments=2, candidates=8, rounds=2),
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    for count in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(count), "-m", "training", "posttrain"]
        command += ["--config", str(tmp_path / "recipe.yaml"), "--data", str(shards)]
        command += ["--encoder", str(tmp_path / "encoder"), "--output", str(tmp_path / f"{count}")]
        command += ["--latents", str(tmp_path / f"latents-{count}")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True, timeout=170
        )
        assert done.returncode == 0, done.stderr
    assert open_cache(tmp_path / "latents-2").frames == open_cache(tmp_path / "latents-1").frames
    assert len(complete_shards(tmp_path / "latents-2")) == 2
    for table in ("log.csv", "validation.csv"):
        one, two = (read_table(tmp_path / f"{count}" / table) for count in (1, 2))
        for first, second in zip(one, two, strict=True):
            assert second["loss"] == pytest.approx(first["loss"], abs=1e-4)
    one, two = (load_world_model(tmp_path / f"{count}").predictor for count in (1, 2))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, atol=1e-4, rtol=1e-3)
