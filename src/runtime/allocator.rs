//! What the allocator keeps of memory that nobody uses any more.
//!
//! glibc's raises its thresholds to the size of the largest buffers that were freed, keeps those
//! in its heaps from then on, and gives a heap back only from its end: after storms of 1,500
//! members that join, leave and join again 540 MB stayed resident, of 15 MB at the start. With
//! fixed thresholds large buffers are mappings of their own, which end when they are freed; that
//! halves it. The rest lies between buffers that live on, and is given back on request, by a shard
//! that has become quiet.

/// Buffers from here on are mappings of their own, and free memory beyond it at the end of a heap
/// is given back: glibc's own first values, in bytes.
const THRESHOLD_BYTES: i32 = 128 * 1_024;
/// Fixes the thresholds. Call before there are threads.
pub fn fix_thresholds() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both take no memory, and are what a program may set at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES);
    }
}

/// Gives back whatever lies free in any heap, up to some tens of milliseconds after a storm: for
/// a thread with nothing to do, and for one that has just freed much because there is too little.
/// Others that ask for memory meanwhile wait for theirs.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no memory, and changes nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
