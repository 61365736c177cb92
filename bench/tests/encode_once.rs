//! A publication is encoded once, however many subscribers it has and wherever they are; and what
//! reaches its receivers on one shard allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ringmesh_bench::fixture::{Fixture, publish_json, text_frame};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a publication to so many subscribers, its flush included, once pools are full.
fn allocations(subscribers: usize) -> usize {
    let mut fixture = Fixture::new();
    for _ in 0..subscribers {
        let subscriber = fixture.connect();
        fixture.subscribe(subscriber, "room-1");
    }
    let publisher = fixture.connect();
    let frame = text_frame(&publish_json("room-1", 150));
    let mut last = 0;
    for _ in 0..5 {
        let mut scratch = frame.clone();
        let written = fixture.written_bytes;
        let before = ALLOCATIONS.with(Cell::get);
        fixture.receive(publisher, &mut scratch);
        fixture.end_turn();
        last = ALLOCATIONS.with(Cell::get) - before;
        assert_eq!((fixture.written_bytes - written) % subscribers, 0);
        assert!(fixture.written_bytes - written > subscribers * 150);
    }
    last
}

#[test]
fn a_publication_to_a_thousand_allocates_no_more_than_one_to_ten() {
    assert_eq!(allocations(1_000), allocations(10));
}

#[test]
fn a_publication_allocates_nothing() {
    assert_eq!(allocations(100), 0);
}

#[test]
fn a_direct_message_on_one_shard_allocates_nothing() {
    let mut fixture = Fixture::new();
    let (ann, _) = (fixture.connect_as("ann"), fixture.connect_as("ben"));
    let data = "x".repeat(100);
    let send = r#"{"type":"send","to":"ben","requestId":"s","data":""#;
    let frame = text_frame(&format!("{send}{data}\"}}"));
    for round in 0..5 {
        let mut scratch = frame.clone();
        let written = fixture.written_bytes;
        let before = ALLOCATIONS.with(Cell::get);
        fixture.receive(ann, &mut scratch);
        fixture.end_turn();
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert!(fixture.written_bytes - written > data.len());
        assert!(round < 2 || allocations == 0, "{allocations}");
    }
}
