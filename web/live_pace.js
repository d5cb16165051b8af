import { secondsAhead } from "./live_source.js";

// Decides when a video that is still being made is played, and how fast. It waits by a rate of 0: a paused video is one
// that a person has paused, and looks like it.

const DRY = 0.15; // seconds left at which it waits: a browser that runs dry itself wants more before it goes on
const START = 0.2; // seconds that are there before the video is played on,
const COLLECT = 2; // or so many of a live video that is made more slowly than it is played
const SLOW = 0.85; // times real time
const MARGIN = 0.2; // seconds that a video is done before it has been played to its end
const SPARE = 0.17; // seconds that a live video always has ahead; with more it is played faster
const FASTER = 1.05;
const MUCH = 0.3; // seconds more than SPARE, which are made up for
const FASTEST = 1.1; // in this way
const WINDOW_MS = 2000; // in which the least that was ahead is looked for

export class Pace {
    #video;
    #status = null;
    #heard = 0;
    #newest = false;
    #rate = 1; // set by us
    #usersRate = 1;
    #waiting = true;
    #timer = 0; // at which the video runs dry
    #ahead = []; // [time, seconds ahead] within the window

    constructor(video) {
        this.#video = video;
        video.addEventListener("ratechange", () => {
            if (video.playbackRate !== this.#rate) this.#usersRate = this.#rate = video.playbackRate;
        });
        for (const name of ["timeupdate", "seeked"]) video.addEventListener(name, () => this.decide());
        video.addEventListener("waiting", () => this.#recover());
    }

    /** Another video is shown. */
    reset() {
        clearTimeout(this.#timer);
        this.#status = null;
        this.#usersRate = 1;
        this.#waiting = true;
        this.#ahead = [];
        this.#set(1);
    }

    /** What the server tells of the stream. */
    follow(status) {
        if (status.frames !== this.#status?.frames) this.#heard = performance.now();
        this.#status = status;
        this.decide();
    }

    /** Whether the newest frame is shown, without sound, in place of playing. */
    get newest() {
        return this.#newest;
    }

    set newest(value) {
        this.#newest = value;
        this.#waiting = true;
        // Back where there is something to hear: the beginning.
        if (!value && this.#video.buffered.length) this.#video.currentTime = this.#video.buffered.start(0);
        this.decide();
    }

    /** Whether the video is made more slowly than it is played. */
    get slow() {
        const { recent_speed, fps, total_frames } = this.#status ?? {};
        return Boolean(recent_speed) && recent_speed < fps && total_frames !== null;
    }

    /** Seconds until a video that is made slowly is played; null while it is not waiting for that. */
    get wait() {
        const { state, total_frames, recent_speed, fps } = this.#status ?? {};
        if (!this.#waiting || this.#newest || state !== "running" || !recent_speed) return null;
        const collect = ((this.#enough() - secondsAhead(this.#video)) * fps) / recent_speed;
        const seconds = total_frames === null ? this.#laggard && collect : this.#missing();
        return seconds > 0 ? seconds : null;
    }

    /** Call it when something has changed: more was appended, or a frame was shown. */
    decide() {
        const video = this.#video;
        if (this.#status?.state !== "running") return this.#set(this.#usersRate);
        if (video.paused || video.seeking || !video.buffered.length) return;
        const now = performance.now();
        const ahead = secondsAhead(video);
        if (this.#newest) {
            this.#set(0);
            const last = video.buffered.end(video.buffered.length - 1) - 1 / this.#status.fps;
            if (last > video.currentTime) video.currentTime = last;
            return;
        }
        if (ahead < DRY) this.#waiting = true;
        else if (ahead >= this.#enough() && this.#missing() <= 0) this.#waiting = false;
        this.#set(this.#waiting ? 0 : this.#suitable(now, ahead));
        clearTimeout(this.#timer);
        if (!this.#waiting) this.#timer = setTimeout(() => this.decide(), (1000 * (ahead - DRY)) / this.#rate + 1);
    }

    /** The browser has run dry, and after each time wants twice as much before it goes on. A seek makes it forget that. */
    #recover() {
        const video = this.#video;
        const dry = this.#status?.total_frames === null && !this.#waiting && !video.seeking && video.buffered.length;
        if (dry) video.currentTime = video.currentTime;
    }

    /** Whether a live video is made more slowly than it is played. */
    get #laggard() {
        const { total_frames, recent_speed, fps } = this.#status;
        return total_frames === null && recent_speed !== null && recent_speed < SLOW * fps;
    }

    /** Seconds that have to be there before a video is played on. */
    #enough() {
        return this.#laggard ? COLLECT : START;
    }

    /** Seconds that a video of known length has to wait, so that it is made before it has been played. */
    #missing() {
        const { frames, total_frames, fps, recent_speed } = this.#status;
        if (total_frames === null || frames >= total_frames) return 0;
        if (!recent_speed) return Infinity;
        const since = (performance.now() - this.#heard) / 1000;
        const making = (total_frames - frames) / recent_speed - since;
        return making + MARGIN - (total_frames / fps - this.#video.currentTime);
    }

    /** The rate for a video that is not waiting. A live one, which answers somebody, comes closer to what is made. */
    #suitable(now, ahead) {
        if (this.#status.total_frames !== null || this.#laggard || this.#usersRate !== 1) return this.#usersRate;
        this.#ahead.push([now, ahead]);
        while (now - this.#ahead[0][0] > WINDOW_MS) this.#ahead.shift();
        const spare = Math.min(...this.#ahead.map(([, seconds]) => seconds)) - SPARE;
        return spare > MUCH ? FASTEST : spare > 0 ? FASTER : 1;
    }

    #set(rate) {
        this.#rate = rate;
        if (this.#video.playbackRate !== rate) this.#video.playbackRate = rate;
    }
}
