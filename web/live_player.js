import { api } from "../../scripts/api.js";
import { addStyle, element } from "./elements.js";
import { Loudness } from "./loudness.js";
import { Direct } from "./live_direct.js";
import { Pace } from "./live_pace.js";
import { canFeed, feed, News, secondsAhead } from "./live_source.js";
import { STYLE } from "./live_style.js";
import { figures, progress } from "./live_words.js";

// What a node shows of its stream: the video with sound, how far it is, stop, download.

const TICK_MS = 500; // between two looks at what no event tells of
const SILENCE_MS = 2000; // without news for so long, the player asks
const RETRY_MS = 5000;
const CONNECT_MS = 3000; // in which WebRTC has to connect, once there is something to see
const CLOSE_MS = 1500; // in which the file is closed where WebRTC ended first
const REST_MS = 4000; // in which the server shows by WebRTC what was made last, of which it keeps 3 s at most
const BEHIND = 0.5; // seconds behind what is made at which the file goes on where WebRTC ended

const CROWDED = "Close another tab that plays this, or wait: the video is shown here when it is finished.";
const NOT_DIRECT = "WebRTC does not connect: this plays the file as it grows, a moment later.";

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
    #direct = null; // in place of bytes: a connection by WebRTC,
    #undirect = false; // which could not be made, or has ended before the stream
    #goOn = null; // the second at which the file goes on after that
    #news = new News();
    #cut = false; // the stream ended before all of it had been read
    #crowded = false; // other tabs of this browser have all the connections that may stay open,
    #retry = Infinity; // and then one is asked for again
    #heard = 0;
    #reached = false; // somebody points at the video
    #timer = setInterval(() => this.#tick(), TICK_MS);

    constructor() {
        addStyle("player", STYLE);
        // In Nodes 2.0, a widget with this class gets the height that a node has left.
        this.element = element("div", { className: "liveavatar-player widget-expands" });
        this.video = element("video", { playsInline: true });
        this.pace = new Pace(this.video);
        this.loudness = new Loudness(this.video, () => this.position);
        this.progress = element("div", { className: "progress" });
        this.figures = element("div", { className: "figures", hidden: true });
        this.stopButton = element("button", { textContent: "Stop", title: "Stop the run and keep what was made" });
        this.soundButton = element("button", { textContent: "Sound on", hidden: true });
        this.newestButton = element("button", { textContent: "Newest frame", hidden: true });
        this.newestButton.title = "Show each block's last frame when it is made, without sound, in place of waiting";
        this.link = element("a", { textContent: "Download", hidden: true });
        this.detailsButton = element("button", { textContent: "Details", hidden: true });
        const controls = element("div", { className: "controls" });
        controls.append(this.stopButton, this.soundButton, this.newestButton, this.link, this.detailsButton);
        const screen = element("div", { className: "screen" });
        screen.append(this.video);
        this.element.append(screen, this.progress, this.figures, controls);

        this.stopButton.addEventListener("click", () => api.interrupt(this.#status?.prompt));
        this.soundButton.addEventListener("click", () => (this.video.muted = false));
        this.video.addEventListener("volumechange", () => (this.soundButton.hidden = !this.video.muted));
        this.newestButton.addEventListener("click", () => {
            this.pace.newest = !this.pace.newest;
            this.#refresh();
        });
        this.detailsButton.addEventListener("click", () => {
            this.figures.hidden = !this.figures.hidden;
            this.#refresh();
        });
        this.#news.addEventListener("appended", () => {
            this.#catchUp();
            this.pace.decide();
        });
        this.video.tabIndex = 0;
        for (const name of ["pointerenter", "focusin"]) screen.addEventListener(name, () => this.#reach(true));
        for (const name of ["pointerleave", "focusout"]) screen.addEventListener(name, () => this.#reach(false));
        this.element.addEventListener("pointerdown", (event) => event.stopPropagation());
        for (const name of ["wheel", "contextmenu"])
            this.video.addEventListener(name, (event) => event.stopPropagation());
    }

    /** Whether a stream is shown while it is made. */
    get live() {
        return this.#status?.state === "running";
    }

    /** The id of the run that makes the stream which is shown. */
    get prompt() {
        return this.#status?.prompt;
    }

    /** How much of the video was shown, in seconds. */
    get position() {
        return this.#direct ? this.#direct.position : this.video.currentTime;
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
        this.pace.follow(status);
        this.#news.tell(status);
        if (this.#direct) this.#mayLeaveDirect();
        else if (this.live && status.direct && !this.#undirect && !this.#feeding) this.#watch();
        else if (!status.mime_type) this.video.removeAttribute("src");
        else if (!this.#feeding && !this.#shown) this.#start();
        this.#refresh();
    }

    /** The server has sent a part of a stream. */
    bring(fragment) {
        if (this.#feeding && fragment.id === this.#status?.id) this.#news.bring(fragment);
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
        this.#endDirect();
        this.#feeding = this.#shown = this.#status = this.#goOn = null;
        this.#undirect = false;
        this.pace.reset();
        this.loudness.reset();
        this.#news.clear();
        this.#cut = this.#crowded = false;
        this.#retry = Infinity;
        this.video.pause();
        this.video.removeAttribute("src");
        this.video.load();
    }

    /** While a stream is live, the browser's controls, whose shadow lies over the picture, are there on demand only. */
    #reach(wanted) {
        this.#reached = wanted;
        this.video.controls = wanted || !this.live;
    }

    /** Show each frame when the server sends it, or else the file. */
    async #watch() {
        const direct = (this.#direct = new Direct());
        const stream = this.#status;
        try {
            await direct.open(this.video, stream.id);
            if (this.#direct !== direct) return;
            direct.addEventListener("end", () => this.#mayLeaveDirect());
            this.#play();
        } catch (error) {
            if (this.#direct !== direct) return;
            console.warn(`LiveAvatar: ${error.message} Playing the file as it grows instead.`);
            this.#leaveDirect(direct);
        }
    }

    /** The stream has ended, or its connection: the other one is waited for. So is a connection that is not there yet. */
    #mayLeaveDirect() {
        const direct = this.#direct;
        if (direct?.over && !this.live) this.#leaveDirect(direct);
        else if (direct?.over || !this.live)
            setTimeout(() => this.#leaveDirect(direct), this.live ? CLOSE_MS : REST_MS);
        else if (!direct?.connected && this.#status.frames)
            setTimeout(() => direct?.connected || this.#leaveDirect(direct), CONNECT_MS);
    }

    /** Nothing comes by WebRTC any more: the rest is in the file. */
    #leaveDirect(direct) {
        if (!direct || direct !== this.#direct) return;
        const { position } = direct;
        this.#endDirect();
        this.#undirect = true;
        if (!this.live) return this.#showFinished();
        this.#goOn = position;
        if (this.#status.mime_type) this.#start();
        this.#refresh();
    }

    #endDirect() {
        this.#direct?.close();
        this.#direct = null;
        this.video.srcObject = null;
    }

    /** Go on in the file where a person has seen it by WebRTC, or at what is made now. */
    #catchUp() {
        const { buffered } = this.video;
        if (this.#goOn === null || !buffered.length) return;
        const place = Math.max(this.#goOn, this.#status.frames / this.#status.fps - BEHIND);
        if (buffered.end(buffered.length - 1) < place) return;
        this.#goOn = null;
        if (place > this.video.currentTime) this.video.currentTime = place;
    }

    async #start() {
        const stream = this.#status;
        if (stream.state !== "running" || !stream.readable) return this.#showFinished();
        const feeding = (this.#feeding = new AbortController());
        try {
            if (!canFeed(stream.mime_type)) throw new Error(`This browser cannot feed ${stream.mime_type}.`);
            const fed = feed(this.video, stream, this.#news, feeding.signal);
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
        this.#retry = performance.now() + RETRY_MS;
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
        this.pace.decide();
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
        this.#reach(this.#reached);
        const address = this.#shown ?? (status && !this.live && status.frames ? fileAddress(status.file) : null);
        this.link.hidden = !address;
        if (address) {
            this.link.href = address;
            this.link.download = new URL(address, location.href).searchParams.get("filename");
        }
        this.newestButton.hidden = !this.live || this.#direct || !(this.pace.slow || this.pace.newest);
        this.newestButton.setAttribute("aria-pressed", this.pace.newest);
        this.detailsButton.hidden = !status?.frames;
        this.detailsButton.setAttribute("aria-expanded", !this.figures.hidden);
        const wait = this.#direct ? null : this.pace.wait;
        const line = status ? progress(status, wait) : "";
        const trouble = this.#crowded ? CROWDED : this.#undirect ? `${line} · ${NOT_DIRECT}` : line;
        this.progress.textContent = this.live ? trouble : line;
        const ahead = this.#shown || this.#direct ? null : secondsAhead(this.video);
        this.figures.textContent = status ? figures(status, ahead) : "";
    }
}
