//! Who we are to a registry, and how it proves who it is. Files are read at every connection, so that a
//! password or a certificate that was replaced is in force from the next one on.

use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;

/// A chain with its key has a few kilobytes; a bundle of all public roots has 250 KiB.
const MAX_PEM_BYTES: usize = 4 << 20;
/// ZooKeeper and etcd take longer ones; nobody has them.
const MAX_PASSWORD_BYTES: usize = 1024;

/// By default: nobody, in clear text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub user: Option<User>,
    pub tls: Option<Tls>,
}

/// Whom requests are made as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Without a colon: ZooKeeper's digest scheme ends the name with one.
    pub name: String,
    /// White space at its end is none of the password.
    pub password_file: PathBuf,
}

/// Servers are always verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the issuers of the servers' certificates. `None`: the system's roots, with etcd only.
    pub ca: Option<PathBuf>,
    /// PEM file with chain and key that the servers are shown.
    pub certificate: Option<PathBuf>,
    /// What the servers must prove to be. `None`: the host that we connect to. With etcd only.
    pub server_name: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} has more than {limit} bytes", .path.display())]
    TooLarge { path: PathBuf, limit: usize },
    #[error("{} has no password in its first line", .path.display())]
    NoPassword { path: PathBuf },
}

/// What [`Access`] names, as it is now.
#[derive(Default)]
pub(crate) struct Credentials {
    pub(crate) user: Option<Identity>,
    /// PEM.
    pub(crate) ca: Option<String>,
    /// PEM.
    pub(crate) certificate: Option<String>,
}

pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Access {
    pub(crate) async fn read(&self) -> Result<Credentials, AccessError> {
        let mut credentials = Credentials::default();
        if let Some(user) = &self.user {
            let text = read(&user.password_file, MAX_PASSWORD_BYTES).await?;
            let password = password_of(&user.password_file, &text)?;
            credentials.user = Some(Identity { name: user.name.clone(), password });
        }
        if let Some(tls) = &self.tls {
            if let Some(path) = &tls.ca {
                credentials.ca = Some(read(path, MAX_PEM_BYTES).await?);
            }
            if let Some(path) = &tls.certificate {
                credentials.certificate = Some(read(path, MAX_PEM_BYTES).await?);
            }
        }
        Ok(credentials)
    }

    /// Whether there is a password; certificates are looked at by whoever knows TLS.
    ///
    /// # Errors
    /// [`AccessError`], which names the file.
    pub fn check_password(&self) -> Result<(), AccessError> {
        let Some(User { password_file: path, .. }) = &self.user else { return Ok(()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| AccessError::Read { path: path.clone(), source })?;
        if text.len() > MAX_PASSWORD_BYTES {
            return Err(AccessError::TooLarge { path: path.clone(), limit: MAX_PASSWORD_BYTES });
        }
        password_of(path, &text).map(drop)
    }
}

async fn read(path: &Path, limit: usize) -> Result<String, AccessError> {
    let failed = |source| AccessError::Read { path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut text = String::new();
    file.take(limit as u64 + 1).read_to_string(&mut text).await.map_err(failed)?;
    if text.len() > limit {
        return Err(AccessError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(text)
}

fn password_of(path: &Path, text: &str) -> Result<String, AccessError> {
    let password = text.trim_end();
    let usable = !password.is_empty() && !password.contains(['\n', '\r', '\0']);
    usable.then(|| password.to_owned()).ok_or_else(|| AccessError::NoPassword { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(folder: &Path, password: &str) -> Access {
        let password_file = folder.join("password");
        std::fs::write(&password_file, password).unwrap();
        Access { user: Some(User { name: "sluice".into(), password_file }), tls: None }
    }

    #[tokio::test]
    async fn a_password_ends_before_the_white_space_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let access = access(folder.path(), "open: sesame \n\n");
        assert!(access.check_password().is_ok());
        let user = access.read().await.unwrap().user.unwrap();
        assert_eq!((&*user.name, &*user.password), ("sluice", "open: sesame"));
    }

    #[tokio::test]
    async fn a_file_without_one_password_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for bad in [String::new(), "\n".into(), "two\nlines".into(), "x".repeat(MAX_PASSWORD_BYTES + 1)] {
            let access = access(folder.path(), &bad);
            for error in [access.check_password().unwrap_err(), access.read().await.err().unwrap()] {
                assert!(error.to_string().contains("password"), "{error}");
            }
        }
        let mut gone = access(folder.path(), "x");
        gone.user.as_mut().unwrap().password_file = folder.path().join("gone");
        assert!(gone.read().await.err().unwrap().to_string().contains("gone"));
    }
}
