import { api } from "../../scripts/api.js";
import { canFeed, feed, secondsAhead } from "./live_source.js";

// What a node shows of its stream: the video with sound, figures, stop, download.

const TICK_MS = 500;
const SILENCE_MS = 2000; // without news for so long, the player asks
const REFILL = 2; // seconds that are collected after the buffer has run dry,
const PATIENCE_MS = 5000; // unless that takes longer than this
const BLOCK = 0.3; // seconds that are worth going on for then

const CROWDED = "Close another tab that plays this, or wait: the video is shown here when it is finished.";

const STYLE = `
.liveavatar-player { display: flex; flex-direction: column; gap: 4px; font: 12px sans-serif; height: 100%;
    min-height: 280px; color: var(--input-text, #ddd); overflow: hidden; }
.liveavatar-player .screen { flex: 1; min-height: 0; position: relative; }
.liveavatar-player video { position: absolute; width: 100%; height: 100%; background: #000; border-radius: 4px; }
.liveavatar-player .figures { min-height: 2.4em; line-height: 1.2; font-variant-numeric: tabular-nums; }
.liveavatar-player .controls { display: flex; gap: 6px; min-height: 24px; }
.liveavatar-player button, .liveavatar-player a { font: inherit; padding: 3px 10px; border-radius: 4px;
    border: 1px solid var(--border-color, #555); background: var(--comfy-input-bg, #222); color: inherit;
    cursor: pointer; text-decoration: none; }
.liveavatar-player [hidden] { display: none; }
.lg-node-widgets:has(.liveavatar-player) ~ :is(img, img + div, :has(img, video, .lg-node-content)) {
    display: none; }
`; // The last rule: in Nodes 2.0 the page puts the newest frame and the finished file below the player that shows both.

function element(tag, properties = {}) {
    return Object.assign(document.createElement(tag), properties);
}

function addStyle() {
    if (document.getElementById("liveavatar-player-style")) return;
    document.head.append(element("style", { id: "liveavatar-player-style", textContent: STYLE }));
}

/** The address of a file of the host's output or temporary folder. */
function fileAddress(place) {
    return api.apiURL(`/view?${new URLSearchParams(place)}`);
}

/** A name for this browser, the same in all of its tabs. */
function browserName() {
    const key = "LiveAvatar.browser";
    const name = localStorage.getItem(key) ?? Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-");
    localStorage.setItem(key, name);
    return name;
}

export class LivePlayer {
    #status = null;
    #shown = null; // the address of the finished file, when that is shown
    #feeding = null; // AbortController while bytes of the stream arrive
    #held = 0; // when we paused until the buffer is filled again
    #cut = false; // the stream ended before all of it had been read
    #crowded = false; // other tabs of this browser have all the connections that may stay open,
    #retry = Infinity; // and then one is asked for again
    #heard = 0;
    #timer = setInterval(() => this.#tick(), TICK_MS);

    constructor() {
        addStyle();
        // In Nodes 2.0, a widget with this class gets the height that a node has left.
        this.element = element("div", { className: "liveavatar-player widget-expands" });
        this.video = element("video", { controls: true, playsInline: true });
        this.figures = element("div", { className: "figures" });
        this.stopButton = element("button", { textContent: "Stop", title: "Stop the run and keep what was made" });
        this.soundButton = element("button", { textContent: "Sound on", hidden: true });
        this.link = element("a", { textContent: "Download", hidden: true });
        const controls = element("div", { className: "controls" });
        controls.append(this.stopButton, this.soundButton, this.link);
        const screen = element("div", { className: "screen" });
        screen.append(this.video);
        this.element.append(screen, this.figures, controls);

        this.stopButton.addEventListener("click", () => api.interrupt(this.#status?.prompt));
        this.soundButton.addEventListener("click", () => (this.video.muted = false));
        this.video.addEventListener("volumechange", () => (this.soundButton.hidden = !this.video.muted));
        this.video.addEventListener("waiting", () => this.#hold());
        this.video.addEventListener("play", () => (this.#held = 0));
        this.element.addEventListener("pointerdown", (event) => event.stopPropagation());
        for (const name of ["wheel", "contextmenu"])
            this.video.addEventListener(name, (event) => event.stopPropagation());
    }

    /** Whether a stream is shown while it is made. */
    get live() {
        return this.#status?.state === "running";
    }

    /** Show what the server tells of a stream; another one replaces the one shown. */
    show(status) {
        this.#heard = performance.now();
        if (status.id !== this.#status?.id) this.#reset();
        const before = this.#status;
        // Answers can overtake messages.
        if (before && (before.state !== "running" || before.frames > status.frames) && status.state === "running")
            return;
        this.#status = status;
        if (!status.mime_type) this.video.removeAttribute("src");
        else if (!this.#feeding && !this.#shown) this.#start();
        this.#refresh();
    }

    /** Show a finished file that belongs to no stream of this player. */
    showFile(place) {
        if (this.#status && fileAddress(place) === fileAddress(this.#status.file)) return;
        this.#reset();
        this.#load(fileAddress(place));
        this.#refresh();
    }

    /** Play nothing. */
    clear() {
        this.#reset();
        this.#refresh();
    }

    dispose() {
        clearInterval(this.#timer);
        this.#reset();
    }

    #reset() {
        this.#feeding?.abort(new DOMException("Another stream is shown.", "AbortError"));
        this.#feeding = this.#shown = this.#status = null;
        this.#held = 0;
        this.#cut = this.#crowded = false;
        this.#retry = Infinity;
        this.video.pause();
        this.video.removeAttribute("src");
        this.video.load();
    }

    async #start() {
        const stream = this.#status;
        if (stream.state !== "running" || !stream.readable) return this.#showFinished();
        const feeding = (this.#feeding = new AbortController());
        try {
            if (!canFeed(stream.mime_type)) throw new Error(`This browser cannot feed ${stream.mime_type}.`);
            const fed = feed(this.video, stream, feeding.signal);
            this.#play();
            const size = await fed;
            await this.#ask();
            // On Windows nothing can be read of the old file once it has been finished.
            this.#cut = size < this.#status?.size;
        } catch (error) {
            if (feeding.signal.aborted) return;
            console.warn(`LiveAvatar: ${error.message} Playing the file as it grows instead.`);
            this.#playPlainly();
        }
    }

    /** Without Media Source Extensions: the browser reads the growing file itself, on a connection that stays open.
     *  The server leaves a browser a few of these; a tab that gets none tries again now and then. */
    async #playPlainly() {
        const stream = this.#status;
        if (stream.state !== "running") return this.#showFinished();
        this.#retry = performance.now() + PATIENCE_MS;
        this.video.removeAttribute("src");
        const path = `/liveavatar/stream/${stream.id}?browser=${browserName()}`;
        const answer = await api.fetchApi(path, { method: "HEAD" }).catch(() => null);
        if (this.#status?.id !== stream.id || this.#shown) return;
        this.#crowded = answer?.status === 429;
        if (!answer?.ok) return;
        this.#retry = Infinity;
        const failed = () => (this.live ? (this.#retry = performance.now()) : this.#showFinished());
        this.video.addEventListener("error", failed, { once: true });
        this.video.src = api.apiURL(path);
        this.#play();
    }

    async #play() {
        try {
            await this.video.play();
        } catch (error) {
            if (error.name !== "NotAllowedError") return; // replaced meanwhile
            this.video.muted = true; // browsers let only a silent video start unasked
            await this.video.play().catch(() => {});
        }
    }

    /** Collect a little before going on, so that a slow run does not stutter with every block. */
    #hold() {
        if (!this.live || !this.video.src.startsWith("blob:") || this.video.seeking || !this.video.currentTime) return;
        this.#held = performance.now();
        this.video.pause();
    }

    /** The finished file, in which one can seek; played on from `time` where one is given. */
    #showFinished(time = null) {
        const { state, frames, file } = this.#status ?? {};
        if (!file || state === "running" || !frames || this.#shown) return;
        this.#load(fileAddress(file));
        if (time === null) return;
        this.video.currentTime = time;
        this.#play();
    }

    #load(address) {
        this.#feeding?.abort(new DOMException("The finished file is shown.", "AbortError"));
        this.#feeding = null;
        this.#shown = address;
        this.video.src = address;
    }

    #tick() {
        // What answers somebody who speaks to it (its length is unknown) must not fall behind.
        const quick = this.#status?.total_frames === null || performance.now() - this.#held > PATIENCE_MS;
        const wanted = quick ? BLOCK : REFILL;
        if (this.#held && (!this.live || secondsAhead(this.video) >= wanted)) this.#play();
        if (this.live && performance.now() - this.#heard > SILENCE_MS) this.#ask();
        if (this.#status && performance.now() > this.#retry) this.#playPlainly();
        if (this.video.ended) this.#showFinished(this.#cut ? this.video.currentTime : null);
        this.#refresh();
    }

    /** Ask the server how far the stream is; one that it does not know any more has ended with the server. */
    async #ask() {
        const stream = this.#status;
        this.#heard = performance.now();
        const response = await api.fetchApi(`/liveavatar/stream/${stream.id}/status`).catch(() => null);
        if (!response || this.#status?.id !== stream.id) return;
        if (response.ok) this.show(await response.json());
        else if (response.status === 404) this.show({ ...stream, state: "failed" });
    }

    #refresh() {
        const status = this.#status;
        this.stopButton.hidden = !this.live;
        const address = this.#shown ?? (status && !this.live && status.frames ? fileAddress(status.file) : null);
        this.link.hidden = !address;
        if (address) {
            this.link.href = address;
            this.link.download = new URL(address, location.href).searchParams.get("filename");
        }
        const line = status ? figures(status, this.#shown ? null : secondsAhead(this.video)) : "";
        this.figures.textContent = this.#crowded && this.live ? CROWDED : line;
    }
}

/** The line of figures: speed, real-time factor, time to first frame, buffer, seconds done and in all. */
function figures(status, ahead) {
    const { state, frames, total_frames, fps, speed, first_frame_seconds } = status;
    if (!frames) return { running: "Preparing the first block…", stopped: "Stopped." }[state] ?? "The run failed.";
    const parts = [];
    if (speed) parts.push(`${speed.toFixed(1)} fps`, `${(speed / fps).toFixed(2)}× real time`);
    // A run that goes on with a video has frames before it has made one.
    if (first_frame_seconds !== null) parts.push(`first frame ${first_frame_seconds.toFixed(1)} s`);
    if (ahead !== null) parts.push(`buffer ${ahead.toFixed(1)} s`);
    const total = total_frames === null ? "" : ` / ${(total_frames / fps).toFixed(1)}`;
    parts.push(`${(frames / fps).toFixed(1)}${total} s`);
    if (state !== "running") parts.push(state);
    return parts.join(" · ");
}
