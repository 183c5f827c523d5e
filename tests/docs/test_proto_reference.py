"""The page that is made of the .proto files."""

from scripts.proto_reference import escaped, page


def test_what_a_row_says() -> None:
    """A field with its type, number and comment; links lead to types on the page; a choice is named."""
    text = page()
    assert "| `top_k` | optional uint32 | 4 | How many classes to return, 1 to 100. Default 5. |" in text
    assert "| `image` | [ImageInfo](#ImageInfo) | 2 |" in text
    assert "| `library_versions` | map of string to string | 16 | " in text
    assert "(One of *method*.) Grad-CAM, Selvaraju et al. 2017." in text
    assert (
        "| `StreamExplain` | [StreamExplainRequest](#StreamExplainRequest) | stream of [StreamExplainResponse]" in text
    )
    assert "| `DATA_TYPE_UINT8` | 2 | Unsigned integers." in text
    assert text.index("## explanation_service.proto") < text.index("## job.proto")


def test_comments_are_no_markdown() -> None:
    """But for what stands in backticks."""
    assert escaped("a_b * c | <d> `e_f | g`") == "a&#95;b &#42; c &#124; &#60;d> `e_f | g`"
