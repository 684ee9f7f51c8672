//! Topic templates: `plant/{line}/{device}/temp` is the filter
//! `plant/+/+/temp`, and what stands in the place of a name becomes a text.

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What is subscribed, with `$share/<group>/` where it was given.
    filter: String,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Exactly(String),
    /// One level; its name where it has one.
    One(Option<String>),
    /// This level and all below.
    Rest,
}

impl Template {
    /// The template, or what is wrong with it and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (share, pattern) = match text.strip_prefix("$share/") {
            Some(rest) => {
                let (group, pattern) = rest
                    .split_once('/')
                    // MQTT 5, 4.8.2.
                    .filter(|(group, _)| !group.is_empty() && !group.contains(['+', '#']))
                    .ok_or_else(|| format!("`{text}` is not `$share/<group>/<topic>`"))?;
                (format!("$share/{group}/"), pattern)
            }
            None => (String::new(), text),
        };
        if pattern.is_empty() || text.len() > usize::from(u16::MAX) || text.contains('\0') {
            return Err("a topic has 1 to 65,535 bytes and no zero byte".to_owned());
        }
        let mut levels = Vec::new();
        let count = pattern.split('/').count();
        for (index, level) in pattern.split('/').enumerate() {
            levels.push(match level {
                "+" => Level::One(None),
                "#" if index + 1 == count => Level::Rest,
                "#" => return Err(format!("in `{text}` the `#` must be the last level")),
                _ => match level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                    Some(name) if is_name(name) => Level::One(Some(name.to_owned())),
                    None if !level.contains(['{', '}', '+', '#']) => {
                        Level::Exactly(level.to_owned())
                    }
                    _ => {
                        return Err(format!(
                            "`{level}` in `{text}` is neither a plain level nor one whole \
                             placeholder such as `{{line}}` (letters, digits, `_`), `+` or `#`"
                        ));
                    }
                },
            });
        }
        let names: Vec<&str> = names(&levels).collect();
        if let Some(twice) = names.iter().enumerate().find_map(|(index, name)| {
            names.iter().take(index).any(|earlier| earlier == name).then_some(name)
        }) {
            return Err(format!("`{text}` names `{{{twice}}}` twice"));
        }
        let plain: Vec<&str> = levels
            .iter()
            .map(|level| match level {
                Level::Exactly(text) => text.as_str(),
                Level::One(_) => "+",
                Level::Rest => "#",
            })
            .collect();
        let filter = format!("{share}{}", plain.join("/"));
        Ok(Self { filter, levels })
    }

    /// What the broker is asked for.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// The placeholders' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        names(&self.levels)
    }

    /// Whether a topic can match both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.levels.iter(), other.levels.iter());
        let mut first = true;
        loop {
            match (ours.next(), theirs.next()) {
                // Topics of the broker itself match no wildcard at their beginning.
                (Some(Level::Exactly(text)), Some(Level::One(_) | Level::Rest))
                | (Some(Level::One(_) | Level::Rest), Some(Level::Exactly(text)))
                    if first && text.starts_with('$') =>
                {
                    return false;
                }
                (None, None) | (Some(Level::Rest), _) | (_, Some(Level::Rest)) => return true,
                (Some(Level::Exactly(a)), Some(Level::Exactly(b))) if a != b => return false,
                (Some(_), Some(_)) => first = false,
                (None, Some(_)) | (Some(_), None) => return false,
            }
        }
    }

    /// What stands at the placeholders, in their order, if the topic matches.
    pub fn matches<'t>(&self, topic: &'t str) -> Option<Vec<&'t str>> {
        let mut values = Vec::new();
        let mut parts = topic.split('/');
        for level in &self.levels {
            match level {
                Level::Rest => return Some(values),
                Level::Exactly(text) => {
                    if parts.next() != Some(text) {
                        return None;
                    }
                }
                Level::One(name) => {
                    let part = parts.next()?;
                    if name.is_some() {
                        values.push(part);
                    }
                }
            }
        }
        parts.next().is_none().then_some(values)
    }
}

/// A filter without `$share/<group>/`.
pub fn unshared(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, topic)| topic)
}

fn names(levels: &[Level]) -> impl Iterator<Item = &str> {
    levels.iter().filter_map(|level| match level {
        Level::One(Some(name)) => Some(name.as_str()),
        _ => None,
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_overlap_where_one_topic_matches_both() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (Template::parse(a).unwrap(), Template::parse(b).unwrap());
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        assert!(overlap("a/{x}", "a/b"));
        assert!(overlap("a/{x}/c", "+/b/{y}"));
        assert!(overlap("a/#", "a"));
        assert!(overlap("#", "a/b/c"));
        assert!(overlap("$share/g/a/+", "a/b"));
        assert!(!overlap("a/{x}", "a/b/c"));
        assert!(!overlap("a/{x}/temp", "a/{x}/state"));
        assert!(!overlap("#", "$SYS/#"));
    }

    #[test]
    fn a_template_is_a_filter_and_its_places_are_texts() {
        let template = Template::parse("plant/{line}/{device}/temp").unwrap();
        assert_eq!(template.filter(), "plant/+/+/temp");
        assert_eq!(template.names().collect::<Vec<_>>(), ["line", "device"]);
        assert_eq!(template.matches("plant/l1/boiler/temp"), Some(vec!["l1", "boiler"]));
        assert_eq!(template.matches("plant/l1/boiler"), None);
        assert_eq!(template.matches("plant/l1/boiler/temp/x"), None);
    }

    #[test]
    fn wildcards_and_shared_subscriptions_are_taken_as_the_protocol_has_them() {
        let template = Template::parse("$share/g/a/+/#").unwrap();
        assert_eq!(template.filter(), "$share/g/a/+/#");
        assert!(template.matches("a/b/c/d").is_some());
        assert!(template.matches("a/b").is_some(), "`#` takes its parent too");
        assert!(template.matches("a").is_none());
    }

    #[test]
    fn a_wrong_template_is_told_with_what_would_be_right() {
        for text in [
            "",
            "a/#/b",
            "a/x{b}",
            "a/{b c}",
            "a/{x}/{x}",
            "a/b+",
            "$share/g",
            "$share/g+/a",
            "a/{}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
