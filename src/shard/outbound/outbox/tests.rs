//! Outboxes written in pieces of every size.

use super::*;

fn frame(len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match len {
        0..=125 => bytes.push(len as u8),
        126..=65_535 => {
            bytes.push(126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.resize(bytes.len() + len, fill);
    bytes
}

/// Writes everything in steps of `step` bytes.
fn drain(outbox: &mut Outbox, pool: &mut BufferPool, step: usize) -> Vec<u8> {
    let mut written = Vec::new();
    while !outbox.is_empty() {
        let count = outbox.pending().len().min(step);
        assert!(count > 0, "an outbox offers what waits");
        written.extend_from_slice(&outbox.pending()[..count]);
        outbox.advance(count, pool);
    }
    written
}

#[test]
fn everything_due_leaves_in_order() {
    for step in 1..40 {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        let (a, b) = (frame(10, 1), frame(200, 2));
        outbox.push(Class::Delivery, &a, &mut pool);
        outbox.push(Class::Reply, &b, &mut pool);
        assert_eq!(
            (outbox.delivery_bytes(), outbox.reply_bytes()),
            (a.len(), b.len())
        );
        assert_eq!(drain(&mut outbox, &mut pool, step), [a, b].concat());
        assert_eq!((outbox.delivery_bytes(), outbox.reply_bytes()), (0, 0));
    }
}

#[test]
fn control_frames_overtake_but_never_inside_a_frame() {
    for begun in 0..15 {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        let (a, b, pong) = (frame(10, 1), frame(70_000, 2), vec![0x8A, 0]);
        outbox.push(Class::Delivery, &a, &mut pool);
        outbox.push(Class::Delivery, &b, &mut pool);
        outbox.advance(begun, &mut pool);
        outbox.push_control(&pong);
        let rest = drain(&mut outbox, &mut pool, 9);
        let expected = match begun {
            0 => [&pong[..], &a, &b].concat(),
            1..=12 => [&a[begun..], &pong, &b].concat(),
            _ => [&b[begun - 12..], &pong].concat(),
        };
        assert_eq!(rest, expected, "{begun} bytes written before the pong");
    }
}

#[test]
fn control_frames_wait_for_the_end_of_the_http_response() {
    for begun in 0..40 {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        let (http, welcome, ping) = (vec![b'H'; 40], frame(10, 1), vec![0x89, 0]);
        outbox.push_http(&http, &mut pool);
        outbox.push(Class::Reply, &welcome, &mut pool);
        outbox.advance(begun, &mut pool);
        outbox.push_control(&ping);
        let rest = drain(&mut outbox, &mut pool, 9);
        assert_eq!(rest, [&http[begun..], &ping, &welcome].concat());
    }
}

#[test]
fn discarding_keeps_only_the_frame_that_has_begun() {
    for begun in 0..30 {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        let (a, b, c) = (frame(10, 1), frame(10, 2), frame(10, 3));
        for part in [&a, &b, &c] {
            outbox.push(Class::Delivery, part, &mut pool);
        }
        outbox.advance(begun, &mut pool);
        outbox.discard_unstarted(&mut pool);
        let all = [a, b, c].concat();
        let keep = begun.div_ceil(12) * 12;
        assert_eq!(outbox.delivery_bytes(), keep - begun);
        let rest = drain(&mut outbox, &mut pool, 100);
        assert_eq!(rest, all[begun..keep], "{begun} bytes written before");
    }
}

#[test]
fn a_queue_that_is_never_empty_does_not_keep_what_is_written() {
    for step in [1_000, 1_013, 70_000] {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for round in 1..400_u32 {
            let next = frame(1_000, round as u8);
            expected.extend_from_slice(&next);
            outbox.push(Class::Delivery, &next, &mut pool);
            while outbox.delivery_bytes() > 3_000 && !outbox.pending().is_empty() {
                let count = outbox.pending().len().min(step).min(1_004);
                sent.extend_from_slice(&outbox.pending()[..count]);
                outbox.advance(count, &mut pool);
            }
            let kept = outbox.owned_bytes() - outbox.delivery_bytes();
            assert!(kept <= 2 * 64 * 1_024, "{kept} bytes are written");
        }
        sent.extend(drain(&mut outbox, &mut pool, step));
        assert!(sent == expected, "in steps of {step}");
    }
}

#[test]
fn control_frames_that_never_run_out_do_not_keep_what_is_written() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for round in 0..1_000_u32 {
        let mut pong = frame(125, round as u8);
        pong[0] = 0x8A;
        expected.extend_from_slice(&pong);
        outbox.push_control(&pong);
        let count = outbox.pending().len().min(if round < 8 { 1 } else { 127 });
        sent.extend_from_slice(&outbox.pending()[..count]);
        outbox.advance(count, &mut pool);
        let kept = outbox.control.as_ref().map_or(0, |it| it.bytes.len());
        assert!(kept <= 2 * outbox.control_bytes() + 127, "{kept} bytes");
    }
    sent.extend(drain(&mut outbox, &mut pool, 1_000));
    assert!(sent == expected);
}

#[test]
fn discarding_keeps_an_http_response() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
    outbox.push_http(b"HTTP/1.1 101 \r\n\r\n", &mut pool);
    outbox.push(Class::Delivery, &frame(10, 1), &mut pool);
    outbox.discard_unstarted(&mut pool);
    let rest = drain(&mut outbox, &mut pool, 100);
    assert_eq!(rest, b"HTTP/1.1 101 \r\n\r\n");
}

#[test]
fn an_empty_outbox_owns_no_buffer() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
    outbox.push(Class::Delivery, &frame(10, 1), &mut pool);
    drain(&mut outbox, &mut pool, 100);
    assert_eq!(outbox.owned_bytes(), 0);
    assert_eq!(pool.len(), 1);
}

#[test]
fn a_large_shared_frame_is_kept_once_and_a_small_one_is_copied() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
    let large: Frame = frame(SHARED_BYTES_MIN, 1).into();
    let small: Frame = frame(100, 2).into();
    for _ in 0..10 {
        outbox.push_shared(Class::Delivery, &large, 0..large.len(), &mut pool);
        outbox.push_shared(Class::Delivery, &small, 0..small.len(), &mut pool);
    }
    assert_eq!(Frame::strong_count(&large), 11);
    assert_eq!(Frame::strong_count(&small), 1);
    assert_eq!(outbox.delivery_bytes(), 10 * (large.len() + small.len()));
    assert!(outbox.owned_bytes() <= 10 * 512);
    drain(&mut outbox, &mut pool, 1_000);
    assert_eq!(Frame::strong_count(&large), 1);
}

#[test]
fn a_long_queue_of_small_frames_owns_little_more_than_is_in_it() {
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
    let next = frame(1_000, 3);
    while outbox.delivery_bytes() < 1 << 20 {
        outbox.push(Class::Delivery, &next, &mut pool);
        let spare = outbox.owned_bytes() - outbox.delivery_bytes();
        assert!(spare <= 96 * 1_024, "{spare} bytes are to spare");
    }
}

#[test]
fn what_outboxes_take_is_counted_and_what_they_use_again_is_not() {
    let mut pool = BufferPool::default();
    let shared = Frame::from(frame(60_000, 3));
    let fill = |pool: &mut BufferPool| {
        let before = pool.taken_bytes();
        let mut outbox = Outbox::default();
        for fill in 0..100 {
            outbox.push(Class::Delivery, &frame(500, fill), pool);
        }
        let owned = pool.taken_bytes() - before;
        assert!(
            owned == 0 || owned == outbox.owned_bytes() as u64,
            "{owned}"
        );
        outbox.push_shared(Class::Delivery, &shared, 0..shared.len(), pool);
        let referred = pool.taken_bytes() - before - owned;
        assert_eq!(referred, shared.len() as u64);
        drain(&mut outbox, pool, usize::MAX);
        owned
    };
    assert!(fill(&mut pool) >= 50_000);
    assert_eq!(fill(&mut pool), 0, "the buffers wait in the pool");
}
