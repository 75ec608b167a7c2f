//! Rule 7: a change costs what it changes. Counted in bytes that compiling it allocates, so that no clock decides.

#![expect(unsafe_code, reason = "an allocator that counts is one")]

#[expect(dead_code, reason = "the micro benches use more of it")]
#[path = "../micro/tables.rs"]
mod tables;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use gateway::table::compile;
use tables::{ENDPOINTS, app, settings, table};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: it hands everything on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends counts for nothing.
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: it came from there, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What it takes to give one of `apps` apps, each with so many endpoints, one more.
fn allocated(apps: usize, endpoints: usize) -> usize {
    let former = table(apps, endpoints);
    let mut snapshot = former.snapshot.clone();
    let changed = app(apps / 2, endpoints + 1);
    snapshot.apps.insert(changed.id.clone(), Arc::new(changed));
    let (settings, before) = (settings(), ALLOCATED.get());
    let next = compile(&settings, &former, snapshot);
    let bytes = ALLOCATED.get() - before;
    assert_eq!(next.0.apps.len(), apps);
    bytes
}

#[test]
fn one_endpoint_costs_the_same_among_few_apps_and_many() {
    let (few, many) = (allocated(100, ENDPOINTS), allocated(20_000, ENDPOINTS));
    // Persistent maps are a few levels deeper: that is all.
    assert!(many < 2 * few, "{few} bytes with 100 apps, {many} with 20,000");
}

#[test]
fn one_endpoint_costs_in_proportion_to_its_app() {
    let (small, large) = (allocated(100, ENDPOINTS), allocated(100, 10 * ENDPOINTS));
    assert!(
        large < 12 * small,
        "{small} bytes in an app of {ENDPOINTS}, {large} in one of ten times as many"
    );
}
