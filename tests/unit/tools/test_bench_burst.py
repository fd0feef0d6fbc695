import pytest

from tools import bench_burst


def test_help_tells_what_it_leaves_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench_burst", "--help"])
    with pytest.raises(SystemExit):
        bench_burst.main()
    told = " ".join(capsys.readouterr().out.split())
    assert "runs on the running stack" in told
    assert "a user burst-… blocked" in told
