"""What each section of a report shows, before it is drawn."""

from esa_pytest.report.figures import Bars, Losses, Positions
from tests.unit.run_builders import HISTORY, document, drifted, run, seen, unjudged


class TestSections:
    def test_models_are_compared_by_bits_a_byte_the_fewest_first(self) -> None:
        runs = [
            run(document(model=name, text={"num_bytes": 10, "bits_per_byte": bits}))
            for name, bits in (("a", 2.0), ("b", 1.0), ("c", None))
        ]
        section = seen(*runs).sections[0]
        assert [row[0] for row in section.tables[0].rows] == ["b (cpu)", "a (cpu)", "c (cpu)"]
        (bars,) = section.figures
        assert bars.panel == Bars(names=("b", "a"), values=(1.0, 2.0), unit="bits per byte")

    def test_throughput_and_memory_stand_beside_the_goldens(self) -> None:
        golden = {"utc": None, "resources": {"throughput_tokens_per_second": 10000.0, "peak_rss_bytes": 2**30}}
        section = seen(run(document(golden=golden))).sections[-1]
        assert section.tables[0].heading == ("baseline", "tokens/s", "efficiency", "peak rss, GiB")
        assert section.tables[0].rows == (
            ("tiny-smoke (cpu)", "12,346 (golden 10,000, ×1.23)", "0.50", "1.50 (golden 1.00, ×1.50)"),  # noqa: RUF001
        )

    def test_what_tier_6_concluded_or_did_not_judge_stands_beside_them(self) -> None:
        judged = [
            {"name": "throughput", "golden": 0.5, "beyond": True, "refusal": None},
            {"name": "memory", "golden": None, "beyond": False, "refusal": "the golden is of cuda-sm90"},
        ]
        # Under --esa-resources warn it is told of a run that passed.
        slower = document(resources={"efficiency": 0.4}, verdict={"tier": 2, "resources": judged})
        row = seen(run(slower)).sections[-1].tables[0].rows[0]
        assert row[2] == "0.40 (golden 0.50, ×0.80)"  # noqa: RUF001
        assert row[-1] == ("throughput is beyond what noise explains · memory not judged: the golden is of cuda-sm90")

    def test_two_resources_refused_for_one_reason_name_it_once(self) -> None:
        judged = [{"name": name, "golden": None, "refusal": "it was busy"} for name in ("throughput", "memory")]
        busy = document(resources={"efficiency": 0.4}, verdict={"tier": 2, "resources": judged})
        assert seen(run(busy)).sections[-1].tables[0].rows[0][-1] == "throughput and memory not judged: it was busy"

    def test_history_shows_accepted_steps_and_warns_of_a_walk(self) -> None:
        section = seen(run(unjudged()), histories=[HISTORY]).sections[-1]
        assert len(section.tables[0].rows) == 8
        assert section.warnings[0].startswith("tiny-smoke (cpu, float32): the loss has walked +0.0")
        (figure,) = section.figures
        assert isinstance(figure.panel, Losses)
        assert figure.panel.walked == (1, 2, 3, 4)
        assert figure.numbers.rows[1][2] == "+2"

    def test_a_ledger_that_cannot_be_read_is_a_sentence(self) -> None:
        section = seen(run(unjudged()), trouble="The ledger is torn.").sections[-1]
        assert (section.warnings, section.tables) == (("The ledger is torn.",), ())

    def test_a_module_that_is_not_a_number_has_moved(self) -> None:
        section = next(one for one in seen(run(drifted())).sections if one.slug == "modules")
        assert section.figures[0].numbers.rows == (("model.layers.1.mlp", "40"), ("model.norm", "inf"))
        assert "the first of 2 that moved is model.layers.1.mlp" in section.figures[0].description

    def test_drift_by_position_knows_what_is_usual(self) -> None:
        section = next(one for one in seen(run(drifted())).sections if one.slug == "positions")
        assert section.figures[0].panel == Positions(labels=("0-15", "16-63"), rms=(1e-2, 3e-2), usual=0.01)
