//! The node's home: where its files are, who may read them, and that one process at a time uses them.
//!
//! What is in the files is the business of `config`, `identity` and `store`.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use infernet_protocol::Network;

/// Only the owner may look into the home.
const DIRECTORY_MODE: u32 = 0o700;
/// Only the owner may read a file with a key or a ledger in it.
const FILE_MODE: u32 = 0o600;
/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Why the home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nobody said where it is, and the user has no home directory.
    #[error("no home directory is known: set `INFERNET_HOME` or pass `--home DIR`")]
    Unknown,
    /// Others may read it.
    #[error("`{path}` can be read or written by others (mode {mode:04o}): run `chmod {wanted:o} {path}`")]
    Permissions {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it must have.
        wanted: u32,
    },
    /// Another process uses it.
    #[error("`{path}` is in use by another infernet process{}: stop it with `infernet stop`, or use another `--home`",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The home.
        path: PathBuf,
        /// The process, where it could be read.
        pid: Option<u32>,
    },
    /// A file could not be read or written.
    #[error("cannot {what} `{path}`: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |error| HomeError::Io { what, path, error }
}

/// A directory that holds everything a node keeps.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    /// Removes a temporary home when the last clone goes.
    _temporary: Option<Arc<tempfile::TempDir>>,
}

impl Home {
    /// The home at `path`, which need not exist yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            _temporary: None,
        }
    }

    /// The home that the flag, `INFERNET_HOME` or the user's own home directory names, in this order.
    pub fn resolve(flag: Option<&Path>, variable: Option<&str>, user_home: Option<&str>) -> Result<Self, HomeError> {
        let path = match (flag, variable, user_home) {
            (Some(path), ..) => path.to_owned(),
            (None, Some(path), _) => PathBuf::from(path),
            (None, None, Some(user)) => Path::new(user).join(".config/infernet"),
            (None, None, None) => return Err(HomeError::Unknown),
        };
        // A daemon changes nothing of where a relative path points, but its log lines should name the place in full.
        let path = std::path::absolute(&path).map_err(failed("resolve", &path))?;
        Ok(Self::at(path))
    }

    /// A home that is removed with its last clone.
    pub fn temporary() -> Result<Self, HomeError> {
        let directory = tempfile::Builder::new()
            .prefix("infernet-")
            .permissions(fs::Permissions::from_mode(DIRECTORY_MODE))
            .tempdir()
            .map_err(failed("create a directory in", &std::env::temp_dir()))?;
        Ok(Self {
            path: directory.path().to_owned(),
            _temporary: Some(Arc::new(directory)),
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `identity.key`.
    #[must_use]
    pub fn identity_file(&self) -> PathBuf {
        self.path.join("identity.key")
    }

    /// Journal and index of one network: `data/`, and below it for networks other than `main`, since a signature of
    /// one network is worth nothing on another.
    #[must_use]
    pub fn data(&self, network: &Network) -> PathBuf {
        let data = self.path.join("data");
        if *network == Network::default() {
            data
        } else {
            data.join("networks").join(network.as_str())
        }
    }

    /// `keys.json`: hashes of the keys of the gateway's callers.
    #[must_use]
    pub fn keys_file(&self) -> PathBuf {
        self.path.join("keys.json")
    }

    /// `batches/`: uploaded files, batches and their results.
    #[must_use]
    pub fn batches(&self) -> PathBuf {
        self.path.join("batches")
    }

    /// `models/`.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.path.join("models")
    }

    /// `daemon.sock`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("daemon.sock")
    }

    /// `daemon.pid`.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.path.join("daemon.pid")
    }

    /// `daemon.flags`: how a node was last started in the background.
    #[must_use]
    pub fn flags_file(&self) -> PathBuf {
        self.path.join("daemon.flags")
    }

    /// `daemon.log`.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.path.join("daemon.log")
    }

    /// `chat-history`, which is there only where somebody asked for it.
    #[must_use]
    pub fn chat_history_file(&self) -> PathBuf {
        self.path.join("chat-history")
    }

    /// Creates the directory where it is missing, and refuses one that others may look into.
    pub fn ensure(&self) -> Result<(), HomeError> {
        create_directory(&self.path)?;
        check_mode(&self.path, DIRECTORY_MODE)
    }

    /// Claims the home for this process until the last clone of the claim is dropped.
    pub fn lock(&self) -> Result<LockedHome, HomeError> {
        self.ensure()?;
        let path = self.path.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(HomeError::InUse {
                    path: self.path.clone(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        // Only for the message that a second process prints: the lock itself is the kernel's.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed("write", &path))?;
        Ok(LockedHome {
            home: self.clone(),
            _file: Arc::new(file),
        })
    }

    /// The process that has claimed the home, if one has.
    pub fn holder(&self) -> Result<Option<u32>, HomeError> {
        let path = self.path.join("lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(read_pid(&mut file)),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }
}

/// A home that no other process uses.
#[derive(Clone, Debug)]
pub struct LockedHome {
    home: Home,
    _file: Arc<File>,
}

impl std::ops::Deref for LockedHome {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Creates a directory that only its owner may look into, and those above it that are missing.
pub fn create_directory(path: &Path) -> Result<(), HomeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(failed("create", path))
}

/// Refuses a path whose mode lets others in.
fn check_mode(path: &Path, wanted: u32) -> Result<(), HomeError> {
    let mode = fs::metadata(path)
        .map_err(failed("look at", path))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(HomeError::Permissions {
        path: path.to_owned(),
        mode,
        wanted,
    })
}

/// Reads a file that only its owner may read; `None` where there is none.
pub fn read_private(path: &Path) -> Result<Option<String>, HomeError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            check_mode(path, FILE_MODE)?;
            Ok(Some(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Writes a whole file so that after a crash there is either the old one or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    write_draft(&draft, bytes).map_err(failed("write", &draft))?;
    fs::rename(&draft, path).map_err(failed("replace", path))?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_file().write(true).create(true).truncate(true).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Options that create files for their owner alone.
#[must_use]
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Puts a directory's entries on disk: new and renamed files in it survive a power cut from here on.
pub fn sync_directory(path: &Path) -> Result<(), HomeError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_variable_and_that_before_the_default() {
        let path = |flag: Option<&str>, variable, user| {
            Home::resolve(flag.map(Path::new), variable, user).map(|home| home.path().display().to_string())
        };
        assert_eq!(path(Some("/a"), Some("/b"), Some("/c")).unwrap(), "/a");
        assert_eq!(path(None, Some("/b"), Some("/c")).unwrap(), "/b");
        assert_eq!(path(None, None, Some("/c")).unwrap(), "/c/.config/infernet");
        assert!(matches!(path(None, None, None), Err(HomeError::Unknown)));
    }

    #[test]
    fn loose_modes_are_refused_with_the_repair() {
        let home = Home::temporary().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let message = home.ensure().unwrap_err().to_string();
        assert!(
            message.ends_with(&format!("run `chmod 700 {}`", home.path().display())),
            "{message}"
        );
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        home.ensure().unwrap();
        write_atomically(&home.identity_file(), b"secret").unwrap();
        assert_eq!(read_private(&home.identity_file()).unwrap().as_deref(), Some("secret"));
        fs::set_permissions(home.identity_file(), fs::Permissions::from_mode(0o640)).unwrap();
        let message = read_private(&home.identity_file()).unwrap_err().to_string();
        assert!(
            message.contains("mode 0640") && message.contains("chmod 600"),
            "{message}"
        );
    }

    #[test]
    fn one_claim_at_a_time() {
        let home = Home::temporary().unwrap();
        assert_eq!(home.holder().unwrap(), None);
        let claim = home.lock().unwrap();
        assert_eq!(home.holder().unwrap(), Some(std::process::id()));
        let refused = home.lock().unwrap_err();
        assert!(
            matches!(refused, HomeError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{refused}"
        );
        drop(claim);
        home.lock().unwrap();
    }

    #[test]
    fn a_temporary_home_leaves_nothing_behind() {
        let home = Home::temporary().unwrap();
        let path = home.path().to_owned();
        let clone = home.clone();
        write_atomically(&home.config_file(), b"").unwrap();
        drop(home);
        assert!(path.exists());
        drop(clone);
        assert!(!path.exists());
    }

    #[test]
    fn networks_have_their_own_data() {
        let home = Home::at("/h");
        assert_eq!(home.data(&Network::default()), Path::new("/h/data"));
        assert_eq!(
            home.data(&Network::new("test").unwrap()),
            Path::new("/h/data/networks/test")
        );
    }
}
