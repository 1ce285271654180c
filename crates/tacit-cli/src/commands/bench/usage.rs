//! What processes used, as the kernel counts it.

use std::time::Duration;

/// The machine's load averages and how many processors there are.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = text.split(' ').take(3).collect();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{} on {processors} processors", averages.join(" "))
}

/// The processor's name.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
}

/// User and system time of some processes together since they were started. One that is gone counts nothing.
pub fn processor_time(pids: &[u32]) -> Duration {
    let ticks: u64 =
        pids.iter().filter_map(|pid| ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Fields 14 and 15 of `/proc/PID/stat`; the second field is a name in parentheses that may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Bytes of a process that lie in memory and belong to it alone.
pub fn private_bytes(pid: u32) -> Option<u64> {
    private(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn private(rollup: &str) -> Option<u64> {
    let kibibytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Some((kibibytes("Private_Clean:")? + kibibytes("Private_Dirty:")?) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 1 0 100 1 2";
        assert_eq!(ticks(stat), Some(12));
        assert_eq!(ticks("12 (x) S"), None);
        let rollup = "x-y ---p 0 00:00 0 [rollup]\nRss: 9 kB\nPrivate_Clean:      4 kB\nPrivate_Dirty:     12 kB\n";
        assert_eq!(private(rollup), Some(16 << 10));
        assert_eq!(private("Rss: 9 kB\n"), None);
        let own = std::process::id();
        assert!(private_bytes(own).unwrap() > 1 << 16);
        assert_eq!(private_bytes(u32::MAX), None);
        assert_eq!(processor_time(&[u32::MAX]), Duration::ZERO);
    }
}
