"""Random numbers depend on their address and on nothing else."""

import numpy as np
import pytest
import torch

from cmmulti.randomness import SampleRandomness, TrainingRandomness, key


def test_keys_are_the_same_everywhere():
    """Golden values: a change would silently change every sample of every seed."""
    assert key("sample", 0) == 0x55B683A317FF2463
    assert key("a", 1) != key("a", 2) != key("a1")
    assert key(1, 2) != key(12)


def test_noise_of_a_seed_ignores_its_batch():
    together = SampleRandomness([1, 2, 3]).normal((3, 2, 4))
    assert torch.equal(together[1:2], SampleRandomness([2]).normal((1, 2, 4)))
    swapped = SampleRandomness([3, 1]).normal((2, 2, 4))
    assert torch.equal(swapped, together[[2, 0]])


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_the_users_default_dtype_and_device_make_no_other_samples(law):
    plain = getattr(SampleRandomness([4, 5]), law)((2, 3))
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            got = getattr(SampleRandomness([4, 5]), law)((2, 3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert got.dtype == torch.float32
    assert torch.equal(got, plain)


def test_repeated_draws_differ_and_children_are_apart():
    randomness = SampleRandomness([5])
    child = randomness.child("finish").normal((1, 6))
    first, second = randomness.normal((1, 6)), randomness.normal((1, 6))
    assert not torch.equal(first, second)
    assert torch.equal(first, SampleRandomness([5]).normal((1, 6)))
    assert not torch.equal(first, child)
    assert 0 <= float(randomness.uniform((1, 100)).min()) < float(randomness.uniform((1, 100)).max()) < 1


def test_the_global_seed_is_not_read():
    torch.manual_seed(0)
    first = SampleRandomness([1]).normal((1, 5))
    torch.manual_seed(1)
    assert torch.equal(first, SampleRandomness([1]).normal((1, 5)))


def test_a_wrong_batch_is_refused():
    with pytest.raises(ValueError, match="3 samples asked of 2"):
        SampleRandomness([1, 2]).normal((3, 1))


def test_training_draws_are_keyed():
    here = TrainingRandomness(seed=1, step=10, rank=0)
    x = torch.zeros(2, 3)
    assert torch.equal(here.normal_like(x), TrainingRandomness(1, 10, 0).normal_like(x))
    others = [
        TrainingRandomness(2, 10, 0),
        TrainingRandomness(1, 11, 0),
        TrainingRandomness(1, 10, 1),
        TrainingRandomness(1, 10, 0, micro=1),
    ]
    assert all(not torch.equal(here.normal_like(x), o.normal_like(x)) for o in others)
    assert not torch.equal(here.normal_like(x), here.normal_like(x, "other"))
    assert not torch.equal(here.uniform(4, "cpu", "a"), here.uniform(4, "cpu", "b"))


def test_dropout_is_shared_and_leaves_no_trace():
    drop = torch.nn.Dropout(0.5)
    randomness = TrainingRandomness(seed=1, step=10)
    x = torch.ones(1000)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with randomness.dropout("cpu"):
        first = drop(x)
    with randomness.dropout("cpu"):
        second = drop(x)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    with TrainingRandomness(seed=1, step=11).dropout("cpu"):
        assert not torch.equal(drop(x), first)


def test_dropout_on_a_gpu_is_keyed_on_that_very_gpu(monkeypatch):
    """Whichever is the current one."""
    gpus, fork = (torch.Generator(), torch.Generator()), torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: fork(devices=[]))
    monkeypatch.setattr(torch.cuda, "default_generators", gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: gpus[0].manual_seed(seed))
    randomness = TrainingRandomness(seed=1, step=10)
    before = gpus[0].initial_seed()
    with randomness.dropout("cuda:1"):
        assert gpus[1].initial_seed() == randomness.generator("dropout").initial_seed()
        assert gpus[0].initial_seed() == before
    with randomness.dropout("cuda"):
        assert gpus[0].initial_seed() == gpus[1].initial_seed()


def test_numpys_integers_are_the_same_seeds():
    assert key("sample", np.int64(7), (np.uint8(1), 2)) == key("sample", 7, (1, 2))
    assert key(True) != key(1)
    assert torch.equal(SampleRandomness(np.arange(2)).normal((2, 3)), SampleRandomness([0, 1]).normal((2, 3)))
