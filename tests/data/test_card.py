import yaml

from danlu.data.card import data_card
from danlu.data.reading import SourceOptions

SUMMARY = {
    "assets": [{"name": "brown", "version": "1", "licence": "MIT", "content": "0"}],
    "sources": {"brown": {"files": 500, "rows": 500}, "mine": {"files": 1, "rows": 3}},
    "funnel": [{"step": "read", "rows": 503, "characters": 9, "dropped": {}, "tally": {"a|b": 2}}],
    "splits": {"train": {"rows": 400, "bytes": 9, "sha256": "ab"}, "valid": {"rows": 100, "bytes": 9, "sha256": "cd"},
               "test": {"rows": 0, "bytes": 0, "sha256": "ef"}},
    "config": {"steps": [{"clean": {}}]},
    "inputs": {"1.sensitive.words": "ff"},
}  # fmt: skip


def test_the_head_is_what_hubs_read_and_the_body_says_where_all_came_from():
    card = data_card("poems", SUMMARY, {"mine": SourceOptions(licence="CC0")})
    _, head, body = card.split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["license"] == "other"
    assert told["license_name"] == "CC0, MIT"
    assert told["size_categories"] == ["n<1K"]
    assert [file["split"] for file in told["configs"][0]["data_files"]] == ["train", "validation"]
    for part in (
        "| brown | 1 | MIT | 500 | 500 |",
        "| mine |  | CC0 | 1 | 3 |",
        "a\\|b 2",
        "`ab`",
        "steps:",
        "1.sensitive.words",
    ):
        assert part in body, part


def test_one_licence_is_named():
    about = {"mine": SourceOptions(licence="MIT")}
    head = yaml.safe_load(data_card("poems", SUMMARY, about).split("---\n", 2)[1])
    assert head["license"] == "mit"
    assert yaml.safe_load(data_card("poems", SUMMARY, {}).split("---\n", 2)[1])["license"] == "other"  # one is unknown
