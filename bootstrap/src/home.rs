//! The home directory: the identity, readable by its owner alone, and the lock that keeps a second process out.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use infernet_protocol::Identity;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The home of this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Claims `path`, or the default below the user's home, and creates it where it is missing.
    pub(crate) fn claim(path: Option<PathBuf>) -> Result<Self> {
        let path = match path {
            Some(path) => path,
            None => std::env::home_dir()
                .context("there is no home directory; name one with `--home`")?
                .join(".config/infernet-bootstrap"),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&path)
            .with_context(|| format!("cannot create `{}`", path.display()))?;
        refuse_looser(&path, DIRECTORY_MODE)?;
        let lock = path.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&lock)
            .with_context(|| format!("cannot open `{}`", lock.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _lock: file }),
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "`{}` is used by another process; stop it or choose another `--home`",
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the home directory"),
        }
    }

    /// The identity of this home, made at the first start.
    pub(crate) fn identity(&self) -> Result<Identity> {
        let path = self.path.join("identity.key");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return create(&path),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        refuse_looser(&path, FILE_MODE)?;
        Identity::parse_secret(&text).with_context(|| {
            format!(
                "`{}` is damaged; restore it from its backup or move it away",
                path.display()
            )
        })
    }
}

fn create(path: &Path) -> Result<Identity> {
    // All but one in 2^128 of the secrets are valid.
    let identity = std::iter::repeat_with(rand::random::<[u8; 32]>)
        .find_map(|secret| Identity::from_secret(&secret).ok())
        .context("no randomness")?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .and_then(|mut file| {
            writeln!(file, "{}", identity.nsec())?;
            file.sync_all()
        });
    written.with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(identity)
}

fn refuse_looser(path: &Path, mode: u32) -> Result<()> {
    let found = path
        .metadata()
        .with_context(|| format!("cannot read `{}`", path.display()))?
        .permissions()
        .mode();
    if found & !mode & 0o777 != 0 {
        bail!(
            "`{0}` can be read or changed by others; run `chmod {mode:o} {0}`",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};

    use super::*;

    #[test]
    fn the_identity_is_made_once_and_kept_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("home");
        let home = Home::claim(Some(path.clone())).unwrap();
        let made = home.identity().unwrap();
        assert_eq!(home.identity().unwrap().node(), made.node());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("identity.key"))), (0o700, 0o600));

        assert!(
            Home::claim(Some(path.clone()))
                .unwrap_err()
                .to_string()
                .contains("another process")
        );
        drop(home);
        let home = Home::claim(Some(path.clone())).unwrap();
        set_permissions(path.join("identity.key"), Permissions::from_mode(0o640)).unwrap();
        assert!(home.identity().unwrap_err().to_string().contains("chmod 600"));
        drop(home);
        set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(Home::claim(Some(path)).unwrap_err().to_string().contains("chmod 700"));
    }
}
