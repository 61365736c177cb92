//! Every rule on messages, as bytes in and items or a fault out.

use super::super::testing::{Received, append_fragment, receive};
use super::*;

const LIMITS: MessageLimits = MessageLimits::text(300);
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Frames of a client, one after another: FIN, opcode, payload.
fn frames(frames: &[(bool, Opcode, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for &(fin, opcode, payload) in frames {
        append_fragment(&mut out, fin, opcode, Some(KEY), payload);
    }
    out
}

fn whole(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frames(&[(true, opcode, payload)])
}

/// Feeds `bytes` to a server's decoder: whole, cut at every byte, and byte by byte. `end`
/// is how many bytes are left over, or the fault that ended it.
fn check(bytes: &[u8], items: &[Received], end: Result<usize, Fault>) {
    let expected = (items.to_vec(), end);
    assert_eq!(
        receive(Decoder::server(), LIMITS, &[bytes]),
        expected,
        "{bytes:x?}"
    );
    for cut in 1..bytes.len() {
        let (front, back) = bytes.split_at(cut);
        let received = receive(Decoder::server(), LIMITS, &[front, back]);
        assert_eq!(received, expected, "{bytes:x?} cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(
        receive(Decoder::server(), LIMITS, &single),
        expected,
        "{bytes:x?} by bytes"
    );
}

fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

#[test]
fn messages_of_one_frame() {
    check(&whole(Opcode::Text, b""), &[text("")], Ok(0));
    check(
        &whole(Opcode::Text, "Grüße 🦀".as_bytes()),
        &[text("Grüße 🦀")],
        Ok(0),
    );
    for bytes in [125, 126, 127, 300] {
        let long = "x".repeat(bytes);
        check(&whole(Opcode::Text, long.as_bytes()), &[text(&long)], Ok(0));
    }
    let two = frames(&[(true, Opcode::Text, b"one"), (true, Opcode::Text, b"two")]);
    check(&two, &[text("one"), text("two")], Ok(0));
    check(&two[..two.len() - 1], &[text("one")], Ok(8));
}

#[test]
fn control_frames() {
    let longest = [b'p'; 125];
    check(
        &whole(Opcode::Ping, b""),
        &[Received::Ping(Vec::new())],
        Ok(0),
    );
    check(
        &whole(Opcode::Ping, &longest),
        &[Received::Ping(longest.to_vec())],
        Ok(0),
    );
    check(&whole(Opcode::Pong, &longest), &[Received::Pong], Ok(0));
    check(&whole(Opcode::Close, b""), &[Received::Close(None)], Ok(0));
    let close = Received::Close(Some((1001, "bye".to_owned())));
    check(&whole(Opcode::Close, b"\x03\xe9bye"), &[close], Ok(0));
}

#[test]
fn fragments_become_one_message() {
    let crab = "🦀".as_bytes();
    let fragmented = frames(&[
        (false, Opcode::Text, b"a "),
        (true, Opcode::Ping, b"?"),
        (false, Opcode::Continuation, &crab[..1]),
        (false, Opcode::Continuation, b""),
        (false, Opcode::Continuation, &crab[1..3]),
        (true, Opcode::Pong, b""),
        (true, Opcode::Continuation, &crab[3..]),
        (true, Opcode::Text, b"next"),
    ]);
    let items = [
        Received::Continuation,
        Received::Ping(b"?".to_vec()),
        Received::Continuation,
        Received::Continuation,
        Received::Continuation,
        Received::Pong,
        text("a 🦀"),
        text("next"),
    ];
    check(&fragmented, &items, Ok(0));
    let empty = frames(&[
        (false, Opcode::Text, b""),
        (true, Opcode::Continuation, b""),
    ]);
    check(&empty, &[Received::Continuation, text("")], Ok(0));
}

#[test]
fn frames_out_of_place() {
    let continuation = whole(Opcode::Continuation, b"x");
    check(&continuation, &[], Err(Fault::UnexpectedContinuation));
    let after_the_last = frames(&[
        (false, Opcode::Text, b"x"),
        (true, Opcode::Continuation, b"y"),
        (true, Opcode::Continuation, b"z"),
    ]);
    let items = [Received::Continuation, text("xy")];
    check(&after_the_last, &items, Err(Fault::UnexpectedContinuation));
    for opcode in [Opcode::Text, Opcode::Binary] {
        let inside = frames(&[(false, Opcode::Text, b"x"), (true, opcode, b"y")]);
        check(
            &inside,
            &[Received::Continuation],
            Err(Fault::UnfinishedMessage),
        );
    }
}

#[test]
fn broken_headers() {
    check(b"\xc1\x80", &[], Err(Fault::ReservedBits));
    check(b"\x83\x80", &[], Err(Fault::ReservedOpcode));
    check(b"\x09\x80", &[], Err(Fault::FragmentedControl));
    check(b"\x89\xfe", &[], Err(Fault::LongControl));
    check(b"\x81\xfe\x00\x7d", &[], Err(Fault::LengthNotMinimal));
    check(
        b"\x81\xff\x80\0\0\0\0\0\0\0",
        &[],
        Err(Fault::LengthOutOfRange),
    );
}

#[test]
fn clients_have_to_mask_and_servers_must_not() {
    check(b"\x81\x00", &[], Err(Fault::UnmaskedFrame));
    check(b"\x8a\x00", &[], Err(Fault::UnmaskedFrame));
    let client = |bytes: &[u8]| receive(Decoder::client(), LIMITS, &[bytes]);
    assert_eq!(client(b"\x81\x02hi"), (vec![text("hi")], Ok(0)));
    assert_eq!(
        client(b"\x81\x80\0\0\0\0"),
        (vec![], Err(Fault::MaskedFrame))
    );
}

#[test]
fn broken_close_payloads() {
    check(
        &whole(Opcode::Close, b"\x03"),
        &[],
        Err(Fault::ClosePayloadTruncated),
    );
    check(
        &whole(Opcode::Close, b"\x03\xed"),
        &[],
        Err(Fault::InvalidCloseCode),
    );
    check(
        &whole(Opcode::Close, b"\x03\xe8\xff"),
        &[],
        Err(Fault::InvalidUtf8),
    );
}

#[test]
fn binary_messages_are_refused_by_their_header() {
    for fin in [false, true] {
        let binary = frames(&[(fin, Opcode::Binary, &[0; 200])]);
        check(&binary[..8], &[], Err(Fault::BinaryMessage));
    }
}

#[test]
fn binary_messages_are_taken_where_they_are_wanted() {
    const BINARY: MessageLimits = MessageLimits {
        takes_binary: true,
        ..LIMITS
    };
    let receive = |frames: &[u8]| {
        let whole = receive(Decoder::server(), BINARY, &[frames]);
        let single: Vec<&[u8]> = frames.chunks(1).collect();
        assert_eq!(receive(Decoder::server(), BINARY, &single), whole);
        whole
    };
    let not_utf8 = [0xff; 200];
    let binary = Received::Binary(not_utf8.to_vec());
    let one = whole(Opcode::Binary, &not_utf8);
    assert_eq!(receive(&one), (vec![binary.clone()], Ok(0)));
    let in_pieces = frames(&[
        (false, Opcode::Binary, &not_utf8[..150]),
        (true, Opcode::Ping, b"between"),
        (false, Opcode::Continuation, b""),
        (true, Opcode::Continuation, &not_utf8[150..]),
        (true, Opcode::Text, b"text"),
    ]);
    let items = vec![
        Received::Continuation,
        Received::Ping(b"between".to_vec()),
        Received::Continuation,
        binary,
        text("text"),
    ];
    assert_eq!(receive(&in_pieces), (items, Ok(0)));
    let long = frames(&[
        (false, Opcode::Binary, &not_utf8),
        (true, Opcode::Continuation, &not_utf8),
    ]);
    let expected = (vec![Received::Continuation], Err(Fault::MessageTooLong));
    assert_eq!(receive(&long), expected);
    let unfinished = frames(&[(false, Opcode::Binary, b""), (true, Opcode::Text, b"")]);
    let expected = (vec![Received::Continuation], Err(Fault::UnfinishedMessage));
    assert_eq!(receive(&unfinished), expected);
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    check(
        &whole(Opcode::Text, b"caf\xe9"),
        &[],
        Err(Fault::InvalidUtf8),
    );
    let surrogate = [&[b'x'; 100], b"\xed\xa0\x80".as_slice(), &[b'x'; 100]].concat();
    check(
        &whole(Opcode::Text, &surrogate),
        &[],
        Err(Fault::InvalidUtf8),
    );
    check(
        &frames(&[(false, Opcode::Text, b"\xff")]),
        &[],
        Err(Fault::InvalidUtf8),
    );
    let unfinished = frames(&[
        (false, Opcode::Text, b"\xf0\x9f"),
        (true, Opcode::Continuation, b"\xa6"),
    ]);
    check(
        &unfinished,
        &[Received::Continuation],
        Err(Fault::InvalidUtf8),
    );
}

#[test]
fn messages_over_the_limit_are_refused_by_a_header() {
    let long = whole(Opcode::Text, &[b'x'; 301]);
    check(&long[..8], &[], Err(Fault::MessageTooLong));
    check(
        b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff1234",
        &[],
        Err(Fault::MessageTooLong),
    );

    let half = [b'x'; 150];
    let full = frames(&[
        (false, Opcode::Text, &half),
        (false, Opcode::Continuation, &half),
    ]);
    let two = [Received::Continuation, Received::Continuation];
    let with_nothing = frames(&[(true, Opcode::Continuation, b"")]);
    let message = text(&"x".repeat(300));
    check(
        &[&full[..], &with_nothing].concat(),
        &[&two[..], &[message]].concat(),
        Ok(0),
    );
    let with_one_more = &whole(Opcode::Continuation, b"x")[..6];
    check(
        &[&full[..], with_one_more].concat(),
        &two,
        Err(Fault::MessageTooLong),
    );
    // The bytes of a character that is only begun count too.
    let begun = frames(&[
        (false, Opcode::Text, b"\xf0\x9f"),
        (true, Opcode::Continuation, &[0; 299]),
    ]);
    check(
        &begun[..16],
        &[Received::Continuation],
        Err(Fault::MessageTooLong),
    );
}

#[test]
fn a_message_of_one_frame_is_not_copied() {
    let mut input = whole(Opcode::Text, b"here");
    let payload_range = input[6..].as_ptr_range();
    let mut decoder = Decoder::server();
    let Ok(Decoded::Item {
        consumed: 10,
        item: Item::Text(Cow::Borrowed(text)),
    }) = decoder.decode(&mut input, &LIMITS)
    else {
        panic!("not borrowed");
    };
    assert_eq!(text.as_bytes().as_ptr_range(), payload_range);
}

#[test]
fn memory_is_held_only_while_a_fragmented_message_is_open() {
    let mut input = frames(&[
        (false, Opcode::Text, b"x"),
        (true, Opcode::Continuation, b"y"),
    ]);
    let mut decoder = Decoder::server();
    decoder.decode(&mut input[..7], &LIMITS).unwrap();
    assert!(decoder.fragments.is_some());
    decoder.decode(&mut input[7..], &LIMITS).unwrap();
    assert!(decoder.fragments.is_none());
}
