//! What `\copy … to` wrote and a later `\copy … from` still reads, when a run goes on where another ended: the files lived as
//! long as that run. Pure.

use std::collections::BTreeMap;

use super::{Placed, Step};
use crate::problem::Problem;
use crate::statement::begins;

/// Of `steps`, of which the first `done` have run, those that have to write their files once more before it goes on. `Err` for
/// files that can no longer be written as they were: since then the script has gone on, and may have changed or taken away the
/// rows that they came from.
pub(crate) fn again(steps: &[Placed], done: usize) -> Result<Vec<usize>, Vec<Problem>> {
    let mut last = BTreeMap::new();
    for (n, placed) in steps[..done].iter().enumerate() {
        if let Step::CopyTo { path, .. } = &placed.step {
            last.insert(path.as_str(), n);
        }
    }
    let (mut needed, mut problems) = (Vec::new(), Vec::new());
    for placed in &steps[done..] {
        match &placed.step {
            // From here on it is a file of this run.
            Step::CopyTo { path, .. } => drop(last.remove(path.as_str())),
            Step::CopyFrom { path, .. } => {
                let Some(writer) = last.remove(path.as_str()) else { continue };
                needed.push(writer);
                problems.extend(lost(&steps[writer..done], placed, path));
            }
            _ => {}
        }
    }
    needed.sort_unstable();
    if problems.is_empty() { Ok(needed) } else { Err(problems) }
}

/// `ran` begins with what wrote the file. What follows that changes nothing as long as it only connects, sets, says or writes files.
fn lost(ran: &[Placed], reader: &Placed, path: &str) -> Option<Problem> {
    let (writer, since) = ran.split_first()?;
    let changed = since.iter().find(|placed| match &placed.step {
        Step::Connect { .. } | Step::CopyTo { .. } | Step::Echo(_) => false,
        Step::Execute { sql, .. } => !sets(sql),
        Step::Generate { .. } | Step::CopyFrom { .. } => true,
    })?;
    let text = format!(
        "reads `{path}`, which {}:{} wrote in a run that ended before this, and which ended with it. {}:{} and what follows have run \
         since, so what would be written now may be other rows, or none. See where the rows are. Where they are as they were, \
         write that `\\copy … to` once more before this line; otherwise get them from a backup, and put them into a file of another \
         name for this line to read, or load them by hand and take this line away",
        writer.file, writer.line, changed.file, changed.line
    );
    Some(Problem::refused(&reader.file, Some(reader.line), text))
}

/// Whether it is only about the session.
pub(crate) fn sets(sql: &str) -> bool {
    begins(sql, &["SET", "RESET"])
}

#[cfg(test)]
mod tests {
    use super::super::{Variables, interpret};
    use super::*;
    use crate::Sources;

    fn of(text: &str, done: usize) -> Result<Vec<usize>, String> {
        let sources = Sources::of([("a.sql", text), ("x.csv", "1\n"), ("mine.csv", "1\n")]);
        let steps = interpret(&sources, "a.sql", "", &Variables::new()).unwrap().steps;
        again(&steps, done)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn a_file_is_written_again_only_where_nothing_has_changed() {
        let text = "\\copy t to x.csv\n\\copy u to y.csv\n\\c other\nSET a = 1;\nTRUNCATE t;\n\\copy t from x.csv\n\\copy t from x.csv\n";
        for done in 1..=4 {
            assert_eq!(of(text, done), Ok(vec![0]), "{done}");
        }
        let said = of(text, 5).unwrap_err();
        assert!(
            said.starts_with("a.sql:6: reads `x.csv`, which a.sql:1 wrote in a run that ended before this")
                && said.contains(" a.sql:5 and what follows have run since")
                && said.lines().count() == 1,
            "{said}"
        );
        // The second reader is left, then nobody.
        assert!(of(text, 6).unwrap_err().starts_with("a.sql:7: "));
        assert_eq!(of(text, 7), Ok(Vec::new()));
    }

    #[test]
    fn what_this_run_writes_or_a_person_puts_there_is_read() {
        let export = "\\copy t to x.csv\nTRUNCATE t;\n";
        assert!(of(&format!("{export}\\copy t from x.csv\n"), 2).is_err());
        assert_eq!(of(&format!("{export}\\copy t from mine.csv\n"), 2), Ok(Vec::new()));
        assert_eq!(of(&format!("{export}\\copy t to x.csv\n\\copy t from x.csv\n"), 2), Ok(Vec::new()));
        assert_eq!(of(&format!("{export}SELECT 1;\n"), 2), Ok(Vec::new()));
    }
}
