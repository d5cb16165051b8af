import { api } from "../../scripts/api.js";

// Feeds a running stream to a <video> through Media Source Extensions.

const AHEAD = 60; // seconds buffered before reading pauses
const BEHIND = 30; // seconds of what was played that stay, to seek back,
const SPARED = 6; // and where memory is short: a browser removes up to the next key frame, which must have been played
const LATE = 30; // who joins a stream longer than this goes on near its end
const RETRY_MS = 1000;
const POLL_MS = 1000; // between two questions whether there is more, where nobody tells

/** What is known of a stream that is fed; its event "more" says that this has changed. */
export class News extends EventTarget {
    size = 0; // bytes
    running = true;
    #fragments = new Map(); // position -> bytes in base64, of those that the server has sent by itself

    /** The server has sent a fragment. */
    bring({ from, bytes }) {
        this.#fragments.set(from, bytes);
    }

    /** The fragment that begins at `position`, if it was sent; those before it are forgotten. */
    take(position) {
        const bytes = this.#fragments.get(position);
        for (const from of this.#fragments.keys()) if (from <= position) this.#fragments.delete(from);
        return bytes && Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    }

    /** Another stream is fed. */
    clear() {
        this.#fragments.clear();
    }

    /** The server tells more. */
    tell({ size, state }) {
        this.size = size;
        this.running = state === "running";
        this.dispatchEvent(new Event("more"));
    }
}

/** Whether this browser can play the stream while it grows; a page's security policy may still forbid it. */
export function canFeed(mimeType) {
    return window.MediaSource?.isTypeSupported(mimeType) ?? false;
}

/** Seconds that can be played on from the current position. */
export function secondsAhead(video) {
    const { buffered, currentTime } = video;
    for (let index = buffered.length - 1; index >= 0; index--)
        if (buffered.start(index) <= currentTime + 0.1) return Math.max(0, buffered.end(index) - currentTime);
    return 0;
}

/**
 * Play `stream` (a status of the server) in `video`; resolves to the number of its bytes when all are appended. `news` is
 * the stream's News; it is told of bytes that can be played by "appended".
 */
export async function feed(video, stream, news, signal) {
    const source = await openSource(video, signal);
    const buffer = source.addSourceBuffer(stream.mime_type);
    let position = 0;
    if (stream.frames / stream.fps > LATE) {
        const range = { Range: `bytes=0-${stream.header_size - 1}` };
        const header = await api.fetchApi(`/liveavatar/stream/${stream.id}`, { headers: range, signal });
        await append(video, buffer, await header.arrayBuffer(), signal);
        position = stream.join;
    }
    for (;;) {
        await room(video, buffer, signal);
        const piece = news.take(position) ?? (await read(stream.id, position, signal));
        if (piece === null) break;
        if (piece.byteLength) {
            await append(video, buffer, piece, signal);
            position += piece.byteLength;
            enter(video);
            news.dispatchEvent(new Event("appended"));
        }
        if (news.running && news.size <= position)
            await Promise.race([event(news, "more", signal), pause(POLL_MS, signal)]);
    }
    if (source.readyState === "open") source.endOfStream();
    return position;
}

async function openSource(video, signal) {
    const source = new MediaSource();
    const address = URL.createObjectURL(source);
    video.src = address;
    try {
        await Promise.race([event(source, "sourceopen", signal), failure(video, signal)]);
    } finally {
        URL.revokeObjectURL(address);
    }
    return source;
}

/** What there is of a stream from `position`, maybe nothing yet; null at its end. Each answer ends at once: a browser
 *  has six connections to a server for all of its tabs. The server tells this page of what comes next. */
async function read(id, position, signal) {
    for (;;) {
        try {
            const response = await api.fetchApi(`/liveavatar/stream/${id}?now&from=${position}&client=${api.clientId}`, {
                signal,
            });
            if (response.status === 410) return null; // it has ended, and its file is closed
            if (response.status === 204) return new ArrayBuffer(0);
            if (!response.ok) throw new Error("The stream cannot be read any more.");
            const piece = await response.arrayBuffer();
            return piece.byteLength ? piece : null;
        } catch (error) {
            // Only a broken connection is worth another request.
            if (signal.aborted || !(error instanceof TypeError)) throw error;
            await pause(RETRY_MS, signal);
        }
    }
}

/** Forget what was played long ago, and wait while enough is buffered. */
async function room(video, buffer, signal) {
    await forget(buffer, video.currentTime - BEHIND, signal);
    while (secondsAhead(video) > AHEAD) await event(video, "timeupdate", signal);
}

async function append(video, buffer, bytes, signal) {
    for (;;) {
        signal.throwIfAborted();
        try {
            buffer.appendBuffer(bytes);
            await event(buffer, "updateend", signal);
            return;
        } catch (error) {
            if (error.name !== "QuotaExceededError") throw error;
            await forget(buffer, video.currentTime - SPARED, signal);
            await event(video, "timeupdate", signal);
        }
    }
}

async function forget(buffer, until, signal) {
    if (!buffer.buffered.length || buffer.buffered.start(0) >= until) return;
    buffer.remove(0, until);
    await event(buffer, "updateend", signal);
}

/** A stream that was joined late does not begin at 0. */
function enter(video) {
    if (video.buffered.length && video.currentTime < video.buffered.start(0))
        video.currentTime = video.buffered.start(0);
}

function event(target, name, signal) {
    return new Promise((resolve, reject) => {
        signal.throwIfAborted();
        const abort = () => reject(signal.reason);
        signal.addEventListener("abort", abort, { once: true });
        target.addEventListener(
            name,
            () => {
                signal.removeEventListener("abort", abort);
                resolve();
            },
            { once: true },
        );
    });
}

async function failure(video, signal) {
    await event(video, "error", signal);
    throw new Error(video.error?.message ?? "The browser cannot play the stream.");
}

async function pause(milliseconds, signal) {
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    signal.throwIfAborted();
}
