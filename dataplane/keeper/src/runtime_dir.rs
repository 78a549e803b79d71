// SPDX-License-Identifier: Apache-2.0
//! The runtime directory: one keeper's alone, and nobody else may write into it.

use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

/// Locked by the keeper for as long as it lives; the file itself stays.
const LOCK: &str = "keeper.lock";

/// Holding it is being the only keeper of a runtime directory; the kernel gives it back when the process ends, however it
/// ends.
pub(crate) struct Claim(#[expect(dead_code, reason = "it is the open file that holds the lock")] File);

/// Makes the directory where it is missing, and becomes its only keeper.
pub(crate) fn claim(dir: &Path) -> anyhow::Result<Claim> {
    if !dir.exists() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.with_context(|| format!("cannot make {}; name another --runtime-dir", dir.display()))?;
        // Whatever the umask was.
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))
            .with_context(|| format!("cannot protect {}", dir.display()))?;
    }
    check(dir)?;
    let path = dir.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot write to {}; name another --runtime-dir", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        anyhow::bail!("another Millrace runs with {}; end it, or name another --runtime-dir", dir.display());
    }
    Ok(Claim(file))
}

/// Who can write here can put a socket or pid files of their own in our place.
fn check(dir: &Path) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    anyhow::ensure!(metadata.is_dir(), "{} is no directory; name another --runtime-dir", dir.display());
    let own = rustix::process::geteuid().as_raw();
    anyhow::ensure!(
        metadata.uid() == own,
        "{} belongs to user {} and not to {own}; name another --runtime-dir",
        dir.display(),
        metadata.uid()
    );
    anyhow::ensure!(
        metadata.mode() & 0o022 == 0,
        "others may write to {}: `chmod go-w` it, or name another --runtime-dir",
        dir.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_and_has_one_keeper() {
        let dir = std::env::temp_dir().join(format!("millrace-claim-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let claim_of = |dir: &Path| claim(dir).map_err(|error| format!("{error:#}"));
        let first = claim_of(&dir).expect("claimed");
        assert_eq!(std::fs::metadata(&dir).expect("there").mode() & 0o777, 0o700);
        assert!(claim_of(&dir).err().expect("refused").contains("another Millrace"));
        drop(first);
        claim_of(&dir).expect("claimed again");
        std::fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("changed");
        assert!(claim_of(&dir).err().expect("refused").contains("chmod go-w"));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
