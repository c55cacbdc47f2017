//! The node's key on disk: created once, imported from elsewhere, loaded at every start. What a key is and does is in
//! `infernet_protocol::identity`.

use std::path::PathBuf;

use infernet_protocol::Identity;
use infernet_protocol::identity::KeyError;

use crate::home::{self, Home, HomeError};

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The home could not be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// There is none yet.
    #[error("no identity at `{0}`: create one with `infernet init`")]
    Missing(PathBuf),
    /// There is one already.
    #[error(
        "`{0}` holds an identity already, and another key would be another node: move that file away first if you mean it"
    )]
    Exists(PathBuf),
    /// The file holds no key.
    #[error(
        "`{path}` does not hold a key ({error}): restore it from your backup, or move it away and run `infernet init`"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyError,
    },
    /// What was given to be imported is no key.
    #[error("what was given is no key ({0}): pass `nsec1...` or 64 hex digits")]
    Import(KeyError),
}

/// Loads the node's identity.
pub fn load(home: &Home) -> Result<Identity, IdentityError> {
    let path = home.identity_file();
    if home.path().exists() {
        home.ensure()?;
    }
    let text = home::read_private(&path)?.ok_or_else(|| IdentityError::Missing(path.clone()))?;
    Identity::parse_secret(&text).map_err(|error| IdentityError::Unreadable { path, error })
}

/// Makes a new identity and keeps it.
pub fn create(home: &Home) -> Result<Identity, IdentityError> {
    let identity = random();
    keep(home, &identity)?;
    Ok(identity)
}

/// Keeps an identity that was given as `nsec1...` or hex.
pub fn import(home: &Home, secret: &str) -> Result<Identity, IdentityError> {
    let identity = Identity::parse_secret(secret).map_err(IdentityError::Import)?;
    keep(home, &identity)?;
    Ok(identity)
}

/// Loads the node's identity, or makes one at the first start.
pub fn load_or_create(home: &Home) -> Result<Identity, IdentityError> {
    match load(home) {
        Err(IdentityError::Missing(_)) => create(home),
        found => found,
    }
}

/// A fresh identity that is kept nowhere.
#[must_use]
pub fn random() -> Identity {
    loop {
        // All but one draw in 2^128 are keys.
        if let Ok(identity) = Identity::from_secret(&rand::random()) {
            return identity;
        }
    }
}

fn keep(home: &Home, identity: &Identity) -> Result<(), IdentityError> {
    home.ensure()?;
    let path = home.identity_file();
    if path.exists() {
        return Err(IdentityError::Exists(path));
    }
    home::write_atomically(&path, format!("{}\n", identity.nsec()).as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_identity_is_the_one_that_is_loaded() {
        let home = Home::temporary().unwrap();
        assert!(matches!(load(&home), Err(IdentityError::Missing(_))));
        let made = create(&home).unwrap();
        assert_eq!(load(&home).unwrap().node(), made.node());
        assert_eq!(load_or_create(&home).unwrap().node(), made.node());
        assert!(matches!(create(&home), Err(IdentityError::Exists(_))));
        assert_ne!(random().node(), random().node());
    }

    #[test]
    fn hex_and_nsec_import_the_same_key() {
        let (one, two) = (Home::temporary().unwrap(), Home::temporary().unwrap());
        let key = random();
        import(&one, &format!(" {}\n", key.nsec())).unwrap();
        import(&two, &hex::encode(key.secret())).unwrap();
        assert_eq!(load(&one).unwrap().node(), load(&two).unwrap().node());
        let wrong = import(&Home::temporary().unwrap(), "nsec1qqq").unwrap_err();
        assert!(wrong.to_string().contains("64 hex digits"), "{wrong}");
    }

    #[test]
    fn a_file_that_holds_no_key_says_so() {
        let home = Home::temporary().unwrap();
        home::write_atomically(&home.identity_file(), b"hello").unwrap();
        let error = load(&home).unwrap_err();
        assert!(matches!(error, IdentityError::Unreadable { .. }), "{error}");
    }
}
