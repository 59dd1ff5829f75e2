import base64

from rcnnkit.pages import jpeg_source, table, text, whole_page


def test_words_are_text_whatever_they_hold() -> None:
    assert text("<b>\"'&\x1b\n🐈") == "&lt;b&gt;&quot;&#x27;&amp;\\x1b\\n🐈"
    page = whole_page("</title><script>", ["<p>one</p>", "", "<p>two</p>"])
    assert "<script" not in page
    assert "<p>one</p>\n<p>two</p>" in page


def test_a_table_has_a_header_and_rows() -> None:
    assert table([["class", "n"], ["<a>", "1"]]) == (
        '<div class="scroll"><table><thead><tr><th>class</th><th>n</th></tr></thead>'
        "<tbody><tr><td>&lt;a&gt;</td><td>1</td></tr></tbody></table></div>"
    )


def test_a_picture_is_part_of_its_page() -> None:
    assert base64.b64decode(jpeg_source(b"\xff\xd8").removeprefix("data:image/jpeg;base64,")) == b"\xff\xd8"
