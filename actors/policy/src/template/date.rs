//! The date that some templates put into the system message (`strftime_now`).

/// Seconds of a day.
const DAY: i64 = 86_400;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Python's `datetime.strftime` in UTC and English; `None` if the format asks for something else.
pub(super) fn strftime(format: &str, unix_seconds: i64) -> Option<String> {
    let (days, second) = (unix_seconds.div_euclid(DAY), unix_seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = usize::try_from((days + 4).rem_euclid(7)).ok()?;
    let month_name = MONTHS.get(usize::try_from(month - 1).ok()?)?;
    let hour12 = (hour + 11) % 12 + 1;
    let of_year = days - days_of(year, 1, 1) + 1;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut directive = characters.next()?;
        let bare = directive == '-';
        if bare {
            directive = characters.next()?;
        }
        let two = |n: i64| if bare { n.to_string() } else { format!("{n:02}") };
        out.push_str(&match directive {
            'Y' => year.to_string(),
            'y' => two(year.rem_euclid(100)),
            'm' => two(month),
            'd' => two(day),
            'e' => {
                if bare {
                    day.to_string()
                } else {
                    format!("{day:2}")
                }
            }
            'H' => two(hour),
            'I' => two(hour12),
            'M' => two(minute),
            'S' => two(second),
            'j' => {
                if bare {
                    of_year.to_string()
                } else {
                    format!("{of_year:03}")
                }
            }
            'f' => "000000".to_owned(),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'A' => DAYS[weekday].to_owned(),
            'a' => DAYS[weekday][..3].to_owned(),
            'w' => weekday.to_string(),
            'B' => (*month_name).to_owned(),
            'b' | 'h' => month_name[..3].to_owned(),
            'F' => format!("{year}-{month:02}-{day:02}"),
            'T' | 'X' => format!("{hour:02}:{minute:02}:{second:02}"),
            'R' => format!("{hour:02}:{minute:02}"),
            'D' | 'x' => format!("{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            'c' => {
                format!("{} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}", &DAYS[weekday][..3], &month_name[..3])
            }
            // A time without a zone, as `datetime.now()`.
            'Z' | 'z' => String::new(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        });
    }
    Some(out)
}

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// The second at which the day of a second began.
pub(crate) fn midnight(unix_seconds: i64) -> i64 {
    unix_seconds.div_euclid(DAY) * DAY
}

/// The second at which a day (`2024-07-26`) begins; `None` if the text is no day.
pub(crate) fn parse_day(text: &str) -> Option<i64> {
    let parts: Vec<i64> = text.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [year, month, day] = parts[..] else { return None };
    let days = (1..=9999).contains(&year).then(|| days_of(year, month, day))?;
    (civil(days) == (year, month, day)).then_some(days * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_pythons() {
        let text = |format, seconds| strftime(format, seconds).unwrap();
        assert_eq!(text("%Y-%m-%d %H:%M:%S %A %B %j", 0), "1970-01-01 00:00:00 Thursday January 001");
        assert_eq!(
            text("%d %b %Y, %I:%M %p, %a %w, %-d/%-m/%y", 1_709_251_199),
            "29 Feb 2024, 11:59 PM, Thu 4, 29/2/24"
        );
        assert_eq!(text("%e %F %T %%", 1_709_251_200), " 1 2024-03-01 00:00:00 %");
        assert_eq!(text("%j", 1_735_603_200), "366");
        assert!(strftime("%Q", 0).is_none() && strftime("%", 0).is_none());
    }

    #[test]
    fn a_day_is_read_or_refused() {
        assert_eq!(strftime("%F %A", parse_day("2024-07-26").unwrap()).as_deref(), Some("2024-07-26 Friday"));
        for day in ["2024-02-30", "2024-13-01", "26 Jul 2024", "", "2024-07", "0-1-1"] {
            assert_eq!(parse_day(day), None, "{day}");
        }
    }
}
