import pytest

from tests.peers.conformance import TABLE, document, measure


@pytest.mark.peers
@pytest.mark.timeout(1800)
def test_other_libraries_and_we_read_each_others_saes_alike(tmp_path):
    found = measure(tmp_path)
    assert len(found) >= 59
    assert {cell.format for cell in found} == {
        "saelens", "dictionary_learning", "sparsify", "gemma_scope", "llama_scope", "openai",
    }  # fmt: skip
    for cell in found:
        assert cell.n_other_features == 0, cell
        assert cell.encode < 1e-5, cell
        assert cell.decode < 1e-5, cell
    # The table that is kept tells of the same cases.
    assert _cases(document(found)) == _cases(TABLE.read_text(encoding="utf-8"))


def _cases(text):
    return [line.split("|")[1:5] for line in text.split("All cases.")[1].splitlines()]
