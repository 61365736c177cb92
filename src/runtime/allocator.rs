//! How much freed memory glibc's allocator keeps.
//!
//! By default it raises its thresholds to the size of the largest buffer that was freed, keeps
//! buffers of that size in its heaps from then on, and gives a heap back only from its end: after
//! storms of 1,500 members that join, leave and join again 540 MB stayed resident, of 15 MB at the
//! start. With fixed thresholds large buffers are mappings of their own, which end when they are
//! freed; that halves it. The rest lies between buffers that are in use, and is given back on
//! request, by a shard that has become quiet.

/// Buffers from here on are mappings of their own, and free memory beyond it at the end of a heap
/// is given back: glibc's own first values, in bytes.
const THRESHOLD_BYTES: i32 = 128 * 1_024;
/// Fixes the thresholds. Call before there are threads.
pub(super) fn fix_thresholds() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both take no memory, and are what a program may set at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES);
    }
}

/// Gives the free memory of all heaps back to the kernel. After a storm that takes some tens of
/// milliseconds, in which other threads wait for memory: call it when the thread is idle, or when
/// the process is short of memory.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no memory, and changes nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
