// What is said below a video while it is made.

const STATES = { stopped: "stopped", failed: "failed", finished: "finished" };

/** How far a stream is, for people; `wait` is the seconds until it is played, where it waits. */
export function progress(status, wait) {
    const { state, frames, total_frames, fps, recent_speed } = status;
    if (!frames) return { running: "Preparing the first block…", stopped: "Stopped." }[state] ?? "The run failed.";
    const made = `${(frames / fps).toFixed(1)} s`;
    if (state === "finished") return `${made}, finished`;
    const of = total_frames === null ? made : `${made} of ${(total_frames / fps).toFixed(1)} s`;
    if (state !== "running") return `${of}, ${STATES[state]}`;
    const toGo = total_frames > frames && recent_speed && `, ${duration((total_frames - frames) / recent_speed)} to go`;
    return of + (toGo || "") + (wait === null ? "" : ` · plays in ${duration(wait)}`);
}

/** Figures: speed, real-time factor, time to first frame, and buffer, where `ahead` (seconds) is given. */
export function figures(status, ahead) {
    const { fps, speed, first_frame_seconds } = status;
    const parts = [];
    if (speed) parts.push(`${speed.toFixed(1)} fps`, `${(speed / fps).toFixed(2)}× real time`);
    // A run that goes on with a video has frames before it has made one.
    if (first_frame_seconds !== null) parts.push(`first frame ${first_frame_seconds.toFixed(1)} s`);
    if (ahead !== null) parts.push(`buffer ${ahead.toFixed(1)} s`);
    return parts.join(" · ");
}

function duration(seconds) {
    const whole = Math.max(1, Math.ceil(seconds));
    if (whole < 100) return `${whole} s`;
    const minutes = Math.round(whole / 60);
    return minutes < 100 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
