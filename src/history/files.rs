//! The files of a directory, and nothing of what is in them. Tests put others in their place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::directory_lock;

/// What is asked of a directory of segments.
pub trait Files: Send + Sync {
    /// Returns the names of all files.
    ///
    /// # Errors
    /// Those of the file system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a new file, which must not be there, and its name durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn create(&self, name: &str) -> io::Result<Box<dyn SegmentFile>>;

    /// Reads a whole file into a buffer in place of what is in there.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&self, name: &str, into: &mut Vec<u8>) -> io::Result<()>;

    /// Cuts a file off at so many bytes.
    ///
    /// # Errors
    /// Those of the file system.
    fn cut(&self, name: &str, bytes: u64) -> io::Result<()>;

    /// Makes a whole file durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name.
    ///
    /// # Errors
    /// Those of the file system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
}

/// A file that is appended to.
pub trait SegmentFile: Send {
    /// Appends bytes, all or not all of them.
    ///
    /// # Errors
    /// Those of the file system; some of the bytes may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// Those of the file system; then nothing is known of what was appended since the last time.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts it off at so many bytes; what is appended then follows there.
    ///
    /// # Errors
    /// Those of the file system.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
}

/// A directory of the file system: for its owner only, as its files are, and for one process at a
/// time.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked for as long as it is open.
    directory: File,
}

impl Directory {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// Those of the file system; `ResourceBusy` if another process has locked it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path)?;
        let directory = File::open(path)?;
        if !directory_lock::lock(&directory)? {
            let text = "in use by another ringmesh process";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        Ok(Self {
            path: path.to_owned(),
            directory,
        })
    }

    fn make_names_durable(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

impl Files for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let file = options.open(self.path.join(name))?;
        self.make_names_durable()?;
        Ok(Box::new(file))
    }

    fn read(&self, name: &str, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let path = self.path.join(name);
        // Whoever opens a pipe waits for its other end.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        into.try_reserve_exact(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        file.take(bytes).read_to_end(into)?;
        Ok(())
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.path.join(name))?.sync_data()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }
}

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}
