//! redb asserts what a damaged file may break, and an operator must get one line for it, not
//! a backtrace: a panic inside [`guarded`] is a finding about the file, like an error.
//!
//! Where panics unwind, the finding is returned. Where they abort the process (the release
//! profile), nothing can be returned, so the hook itself says the line and exits with 1.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::error::StoreError;

thread_local! {
    /// The file that this thread is reading under guard.
    static GUARDED: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Runs `read`, which reads `path` on this thread, with its panics as
/// [`StoreError::Damaged`].
///
/// # Errors
/// Those of `read`, and `Damaged` where it panicked. In a build that aborts on panic the
/// process ends with that error on standard error instead.
pub(super) fn guarded<T>(
    path: &Path,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info| {
            GUARDED.with_borrow(|path| match path {
                Some(path) => on_guarded_panic(path, info),
                None => others(info),
            });
        }));
    });
    GUARDED.set(Some(path.into()));
    // Everything that `read` made is dropped by the unwinding: nothing half-made is seen again.
    let result = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(None);
    result.unwrap_or_else(|_| Err(damaged(path)))
}

fn damaged(path: &Path) -> StoreError {
    StoreError::Damaged(path.into(), "its structure is broken".into())
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a process that cannot return"
)]
fn on_guarded_panic(path: &Path, info: &PanicHookInfo<'_>) {
    tracing::debug!(%info, "reading the store");
    if cfg!(panic = "abort") {
        eprintln!("ringmesh: {}", damaged(path));
        std::process::exit(1);
    }
}
