//! Private keys.

/// A private key that can sign; it never prints.
pub struct PrivateKey {
    /// What stands beside it in its file.
    comment: String,
}

/// Why a file gives no key. Nothing of the file's content is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is none of the known forms.
    #[error("this is no private key in the form of OpenSSH, PKCS#1, PKCS#8 or SEC 1")]
    Unknown,
}

impl KeyError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        None
    }
}

impl PrivateKey {
    /// Reads a file of OpenSSH's form or a PEM file.
    pub fn parse(_text: &[u8]) -> Result<Self, KeyError> {
        Err(KeyError::Unknown)
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({}, ***)", self.comment)
    }
}
