"""Addresses down to a house number, Chinese and English, and streets that nobody lives in."""

import pytest

from danlu.data.personal_places import find_addresses


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("我住在北京市海淀区中关村大街27号院5号楼1101室。", ["北京市海淀区中关村大街27号院5号楼1101室"]),
        ("寄到上海市浦东新区世纪大道100号，谢谢", ["上海市浦东新区世纪大道100号"]),
        ("内蒙古自治区呼和浩特市新城区解放巷3号", ["内蒙古自治区呼和浩特市新城区解放巷3号"]),
        ("家住朝阳区万柳小区5栋2单元301室", ["朝阳区万柳小区5栋2单元301室"]),
        ("四川省成都市武侯区人民南路四段27号", ["四川省成都市武侯区人民南路四段27号"]),
        ("他沿着中山路走了很久", []),
        ("乘2号线到人民广场", []),
        ("空调得弄一弄了", []),
        ("第3号文件", []),
        ("She lives at 350 5th Ave., Apt 4B, New York, NY 10118 now", ["350 5th Ave., Apt 4B, New York, NY 10118"]),
        ("10 Downing Street, London SW1A 2AA", ["10 Downing Street, London SW1A 2AA"]),
        ("41 Long Mount Suite 698\nOld Town, DE 39560", ["41 Long Mount Suite 698\nOld Town, DE 39560"]),
        ("mail to P.O. Box 1234", ["P.O. Box 1234"]),
        ("his address is 12 elm street", ["12 elm street"]),
        ("12 elm street", []),
        ("in 1961 Wall Street firms", []),
        ("Down the Main Street", []),
        ("it costs $45 Main Street says", []),
    ],
)
def test_addresses(text: str, found: list[str]):
    assert [text[one.start : one.end] for one in find_addresses(text)] == found
