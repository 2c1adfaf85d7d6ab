"""Where a stream is cut must not change what comes out of it."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.wire.transducer import Opening, Rename, RenameModel, Transducer, Watch, close, feed

# Few letters, so that names overlap with the text, with themselves and with each other.
texts = st.text("ab", max_size=40).map(str.encode)
names = st.text("ab", min_size=1, max_size=5).map(str.encode)


@st.composite
def pieces(draw: st.DrawFn, whole: st.SearchStrategy[bytes] = texts) -> list[bytes]:
    """Some bytes, cut anywhere, empty pieces included."""
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def through(machine: Transducer, parts: list[bytes]) -> bytes:
    return b"".join(map(machine.feed, parts)) + machine.close()


@given(pieces(), names, names)
@example([b"ab", b"b"], b"ab", b"xa")
@example([b"a", b"a"], b"a", b"aa")
@example([b"aa", b"ab"], b"aab", b"b")
def test_rename_equals_replacing_in_the_whole(parts: list[bytes], old: bytes, new: bytes) -> None:
    assert b"".join(parts).replace(old, new) == through(Rename(old, new), parts)


@given(pieces(), names, names)
def test_rename_holds_back_less_than_the_name(parts: list[bytes], old: bytes, new: bytes) -> None:
    machine = Rename(old, new)
    taken, given_back = b"", b""
    for part in parts:
        taken += part
        given_back += machine.feed(part)
        held = machine._held
        assert len(held) < len(old)
        assert old.startswith(held)
        assert taken.replace(old, new) == given_back + held


def test_rename_passes_a_piece_that_ends_outside_the_name_at_once() -> None:
    machine = Rename(b"model-a", b"b")
    assert machine.feed(b'{"model":"model-a"}') == b'{"model":"b"}'
    assert machine.close() == b""


def test_rename_says_nothing_twice_on_close() -> None:
    machine = Rename(b"ab", b"c")
    assert machine.feed(b"a") == b""
    assert machine.close() == b"a"
    assert machine.close() == b""


@given(pieces(), st.lists(names, max_size=3))
def test_watch_sees_a_text_wherever_the_pieces_are_cut(parts: list[bytes], wanted: list[bytes]) -> None:
    machine = Watch(tuple(wanted))
    whole = b"".join(parts)
    assert whole == through(machine, parts)
    assert (not wanted or any(text in whole for text in wanted)) == machine.seen


@given(pieces(), st.lists(st.tuples(names, names), max_size=4))
def test_a_chain_is_its_machines_one_after_the_other(parts: list[bytes], renames: list[tuple[bytes, bytes]]) -> None:
    machines = [Rename(old, new) for old, new in renames]
    expected = b"".join(parts)
    for old, new in renames:
        expected = expected.replace(old, new)
    assert expected == b"".join(feed(machines, part) for part in parts) + close(machines)


def test_an_empty_chain_passes_everything() -> None:
    assert feed((), b"x") == b"x"
    assert close(()) == b""


@given(st.lists(st.sampled_from([b": ping\n\n", b"event: begin\ndata: 1\n\n", b"event: more\ndata: 2\n\n"])), st.data())
def test_a_stream_that_lacks_its_opening_gets_it_wherever_it_is_cut(events: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    machine = Opening(b"begin", b"<opening>")
    pieces = [whole[a:b] for a, b in pairwise([0, *cuts, len(whole)])]
    out = b"".join([machine.feed(piece) for piece in pieces]) + machine.close()
    told = [event for event in events if not event.startswith(b":")]
    expected = whole
    if told and not told[0].startswith(b"event: begin"):
        at = whole.index(told[0])
        expected = whole[:at] + b"<opening>" + whole[at:]
    assert expected == out


SAID = b'data: {"model" : "a \\"b\\" c.gguf","choices":[{"delta":{"content":"the \\"model\\":\\"x\\" stays"}}]}\n\n'


@given(st.lists(st.integers(0, 3 * len(SAID))))
def test_the_name_a_server_gives_itself_is_replaced_wherever_it_is_cut(cuts: list[int]) -> None:
    whole = SAID * 3
    machine = RenameModel('n"ew')
    pieces = [whole[a:b] for a, b in pairwise([0, *sorted(cuts), len(whole)])]
    out = b"".join([machine.feed(piece) for piece in pieces]) + machine.close()
    assert whole.replace(rb'"a \"b\" c.gguf"', rb'"n\"ew"') == out
    assert [SAID.replace(rb'"a \"b\" c.gguf"', rb'"n\"ew"')] * 3 == [RenameModel('n"ew').feed(SAID) for _ in range(3)]


def test_a_whole_answer_without_line_ends_is_renamed_at_its_end() -> None:
    machine = RenameModel("m")
    assert (b"", b'{"model":"m"}') == (machine.feed(b'{"model":"x"}'), machine.close())
