//! The files of a directory, and nothing of what is in them. Tests put others in their place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// A directory of the file system: for its owner only, as its files are.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    fn make_names_durable(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Files for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let file = options.open(self.0.join(name))?;
        self.make_names_durable()?;
        Ok(Box::new(file))
    }

    fn read(&self, name: &str, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let path = self.0.join(name);
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
        let file = OpenOptions::new().write(true).open(self.0.join(name))?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.0.join(name))?.sync_data()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
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
