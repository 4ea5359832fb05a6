//! The certificates of `internal_ssl`: values of the secret, a volume of it, and JupyterHub's variables with their paths.

use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::Blueprint;
use crate::spawner::singleuser::{SSL_FILES, ssl_texts};

/// The name of the volume.
const VOLUME: &str = "jupyterhub-internal-certs";

/// Everybody in the container can read them, nobody write: images run as any user.
const MODE: i32 = 0o444;

/// The texts, by the names of the files.
pub fn data(blueprint: &Blueprint<'_>) -> impl Iterator<Item = (String, String)> {
    let texts = blueprint.launch.certificates.as_ref().map(ssl_texts);
    texts.into_iter().flatten().map(|(name, text)| (name.to_owned(), text))
}

/// The variables: the paths, or `None` for those that the hub's own paths must not stand in.
pub fn variables(blueprint: &Blueprint<'_>) -> [(&'static str, Option<String>); 3] {
    let there = blueprint.launch.certificates.is_some();
    SSL_FILES.map(|(name, file)| (name, there.then(|| format!("{}{file}", blueprint.options.secret_mount_path))))
}

/// The volume, which has only the certificates of all that is in the secret, and where it is mounted.
pub fn volume(blueprint: &Blueprint<'_>) -> Option<(Volume, VolumeMount)> {
    blueprint.launch.certificates.as_ref()?;
    let item =
        |(_, file): (&str, &str)| KeyToPath { key: file.to_owned(), path: file.to_owned(), ..KeyToPath::default() };
    let volume = Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(blueprint.place.secret.clone()),
            default_mode: Some(MODE),
            items: Some(SSL_FILES.map(item).into()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: blueprint.options.secret_mount_path.clone(),
        ..VolumeMount::default()
    };
    Some((volume, mount))
}
