from interp.recording import ProgressLines, progress_of_stages


def test_progress_without_a_total_tells_how_much_is_done(capsys):
    with ProgressLines("encode", None, seconds_between_lines=0.0) as progress:
        progress.show(1200, "documents")
    assert capsys.readouterr().err == "encode: 1,200 documents\n"


def test_the_last_line_always_comes(capsys):
    with ProgressLines("train", 3, seconds_between_lines=1000.0) as progress:
        for done in (1, 2, 3):
            progress.show(done)
    assert capsys.readouterr().err == "train: 3/3\n"


def test_each_stage_has_a_bar_of_its_own(capsys):
    with progress_of_stages() as tell:
        for done in (1, 2):
            tell("features", done, 2)
        tell("statistics", 7, 7)
    assert capsys.readouterr().err.splitlines() == ["features: 2/2", "statistics: 7/7"]
