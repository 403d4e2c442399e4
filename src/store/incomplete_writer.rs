//! Whose an incomplete file is, streams included.

use crate::error::Result;
use crate::store::image_id::ImageId;
use crate::store::layout::Layout;
use crate::store::lock::CacheLockGuard;
use crate::store::stream_record::StreamRecord;
use crate::store::writers::Writer;
use crate::sys::stat::StatAndBirth;
use crate::sys::time::Timestamp;

/// Whose an incomplete file is. The file of a stream has no writer's lock.
pub(crate) fn writer_of(
    layout: &Layout,
    lock: &CacheLockGuard<'_>,
    id: &ImageId,
    file: &StatAndBirth,
) -> Result<Writer> {
    let writer = lock.writer_of(file)?;
    if !matches!(writer, Writer::Dead) {
        return Ok(writer);
    }
    let idle = file.stat.modified.distance(Timestamp::now());
    match StreamRecord::open(layout, id, file) {
        Ok(Some((record, facts))) if facts.verdict.is_none() || record.is_attended()? => {
            Ok(Writer::Stream { is_attended: record.is_attended()?, process: facts.process, since: facts.since, idle })
        }
        Ok(_) => Ok(writer),
        // Another user's stream.
        Err(error) if error.is_denied() && StreamRecord::exists(layout, id) => Ok(Writer::Unknown { idle }),
        Err(error) => Err(error),
    }
}
