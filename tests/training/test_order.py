"""The order of examples is a function of counters alone."""

from __future__ import annotations

from cmmulti.training.order import Order, StepBatches


def test_every_pass_sees_every_example_once_in_another_order() -> None:
    order = Order(7, seed=3, batch_size=7)
    first, second = order.batch(0), order.batch(1)
    assert sorted(p.example for p in first) == list(range(7))
    assert [p.epoch for p in first] == [0] * 7
    assert [p.epoch for p in second] == [1] * 7
    assert [p.example for p in first] != [p.example for p in second]


def test_another_seed_has_another_order() -> None:
    orders = [[p.example for p in Order(30, seed, batch_size=30).batch(0)] for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_batches_run_across_the_end_of_a_pass() -> None:
    order = Order(5, seed=0, batch_size=3)
    stream = [place for step in range(5) for place in order.batch(step)]
    assert [p.epoch for p in stream] == [i // 5 for i in range(15)]
    for epoch in range(3):
        assert sorted(p.example for p in stream if p.epoch == epoch) == list(range(5))


def test_processes_and_accumulation_cut_the_same_batch() -> None:
    whole, cut = Order(11, 0, batch_size=8), Order(11, 0, batch_size=8, accumulate=2, processes=2)
    parts = [place for micro in range(2) for rank in range(2) for place in cut.batch(5, micro, rank)]
    assert parts == whole.batch(5)


def test_a_later_start_continues_the_same_stream() -> None:
    all_of_it = list(StepBatches(Order(11, 1, 4, accumulate=2), 0, 9))
    rest = StepBatches(Order(11, 1, 4, accumulate=2), 6, 9)
    assert list(rest) == all_of_it[12:]
    assert len(rest) == 6


def test_fewer_examples_than_a_batch() -> None:
    assert sorted(p.example for p in Order(2, 0, 4).batch(3)) == [0, 0, 1, 1]
