//! Where programs are looked for.

/// Where they are if nobody says anything that can be used.
const USUAL: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the system's programs are that not everybody's path has.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The directories of `path` (as in `PATH`) that are absolute, in their order, and then those of the system's programs. An empty or a
/// relative one would mean whatever directory the process is in, which may be anybody's.
pub fn search_path(path: Option<&str>) -> String {
    let given = path.unwrap_or_default().split(':').filter(|place| place.starts_with('/'));
    let mut places: Vec<&str> = given.collect();
    if places.is_empty() {
        places.extend(USUAL.split(':'));
    }
    for place in SYSTEM {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_directories_are_searched() {
        assert_eq!(
            search_path(Some(":bin:./x:/opt/bin::../y:/usr/sbin:.")),
            "/opt/bin:/usr/sbin:/usr/local/sbin:/sbin"
        );
    }

    #[test]
    fn without_a_path_the_usual_places_are_searched() {
        for path in [None, Some(""), Some("."), Some("::")] {
            assert_eq!(search_path(path), "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin");
        }
    }
}
