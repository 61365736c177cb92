//! Files in memory that are sealed before another process gets them: nobody can change them any
//! more, and they are on no disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

/// What a file must be sealed with to be believed.
fn seals() -> SealFlags {
    SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK
}

/// A sealed file with these bytes.
///
/// # Errors
/// There is no memory, or no descriptor, to be had.
pub(in crate::runtime) fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, seals() | SealFlags::SEAL)?;
    Ok(file.into())
}

/// The bytes of a file that another process has sealed.
///
/// # Errors
/// It is not sealed, longer than `bytes_max`, or cannot be read.
pub(in crate::runtime) fn read_sealed(file: OwnedFd, bytes_max: u64) -> io::Result<Vec<u8>> {
    if !fcntl_get_seals(&file)?.contains(seals()) {
        return Err(io::Error::other(
            "a file of the other process is not sealed",
        ));
    }
    let file = File::from(file);
    let length = file.metadata()?.len();
    if length > bytes_max {
        let text = format!("a file of the other process has {length} bytes, more than {bytes_max}");
        return Err(io::Error::other(text));
    }
    // Within what was allowed, which memory can address.
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_and_can_not_be_changed() {
        let file = sealed("test", b"abc").unwrap();
        let mut writer = File::from(file.try_clone().unwrap());
        assert!(writer.write_all(b"d").is_err());
        assert!(writer.set_len(1).is_err());
        assert!(read_sealed(file.try_clone().unwrap(), 2).is_err());
        assert_eq!(read_sealed(file, 3).unwrap(), b"abc");
    }

    #[test]
    fn what_is_not_sealed_is_not_believed() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(read_sealed(file, 10).is_err());
        assert!(read_sealed(tempfile::tempfile().unwrap().into(), 10).is_err());
    }
}
