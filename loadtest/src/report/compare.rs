//! `compare`: result files side by side, as ratios to the first.

use std::fmt::Write;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::report::result::{ResultFile, RunResult, median_of};
use crate::report::summary::figures;

/// Reads the files and tabulates the medians of every run that the first one has.
///
/// # Errors
/// [`Failure::File`] for a file that is no result, or of another format.
pub(crate) fn compare(paths: &[PathBuf]) -> Result<String, Failure> {
    let files: Vec<ResultFile> = paths.iter().map(read).collect::<Result<_, _>>()?;
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Ok(table(&names, &files))
}

fn read(path: &PathBuf) -> Result<ResultFile, Failure> {
    let wrong = |cause: String| Failure::File {
        path: path.display().to_string(),
        cause,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: ResultFile = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("no result of this harness ({error})")))?;
    if !file.is_readable() {
        return Err(wrong(format!(
            "format {} is not known to this version",
            file.format
        )));
    }
    Ok(file)
}

fn table(names: &[String], files: &[ResultFile]) -> String {
    let mut out = String::new();
    for (at, name) in names.iter().enumerate() {
        put(&mut out, format_args!("{}: {name}", label(at)));
    }
    let Some(base) = files.first() else {
        return out;
    };
    if files.iter().any(|file| file.machine != base.machine) {
        put(
            &mut out,
            format_args!("note: the files come from different machines"),
        );
    }
    let mut seen = Vec::new();
    for run in &base.runs {
        if seen.contains(&&run.name) {
            continue;
        }
        seen.push(&run.name);
        put(&mut out, format_args!("\n{}", run.name));
        for figure in figures(run) {
            let medians: Vec<Option<f64>> = files
                .iter()
                .map(|file| median_of(&named(file, &run.name), |run| figure.value(run)))
                .collect();
            let Some(base) = medians[0] else { continue };
            let mut line = format!("  {:<36} {:>12}", figure.name, figure.text(base));
            for median in &medians[1..] {
                // Writing to a String does not fail.
                let _infallible = match median {
                    Some(value) if base != 0.0 => {
                        write!(line, " {:>12} (x{:.3})", figure.text(*value), value / base)
                    }
                    Some(value) => write!(line, " {:>12}         ", figure.text(*value)),
                    None => write!(line, " {:>12}         ", "-"),
                };
            }
            put(&mut out, format_args!("{}", line.trim_end()));
        }
    }
    out
}

fn named<'a>(file: &'a ResultFile, name: &str) -> Vec<&'a RunResult> {
    file.runs.iter().filter(|run| run.name == name).collect()
}

fn label(at: usize) -> String {
    if at == 0 {
        "base".into()
    } else {
        format!("[{at}]")
    }
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _infallible = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::example;

    #[test]
    fn medians_are_compared_as_ratios_to_the_first() {
        let base = ResultFile::new(vec![
            example(1, 2_000.0),
            example(2, 4_000.0),
            example(3, 3_000.0),
        ]);
        let other = ResultFile::new(vec![example(1, 1_500.0)]);
        let text = table(&["a.json".into(), "b.json".into()], &[base, other]);
        assert!(text.contains("base: a.json\n[1]: b.json"), "{text}");
        assert!(text.contains("3.00 µs      1.50 µs (x0.500)"), "{text}");
        assert_eq!(text.matches("\nfanout\n").count(), 1);
    }

    #[test]
    fn a_result_survives_its_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.json");
        let file = ResultFile::new(vec![example(1, 2_000.0)]);
        std::fs::write(&path, serde_json::to_string(&file).expect("serializes")).expect("written");
        assert!(
            compare(&[path.clone(), path.clone()])
                .expect("readable")
                .contains("(x1.000)")
        );
        std::fs::write(&path, "{}").expect("written");
        let failure = compare(&[path]).expect_err("no result").to_string();
        assert!(failure.contains("a.json") && failure.contains("no result"));
    }
}
