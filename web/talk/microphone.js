// The microphone as pieces of 20 ms: 16-bit samples, mono, 24 kHz.

const LOCK_MS = 2000; // in which another tab gives the microphone back
const RATE = 24_000;
const WORKLET = new URL("./microphone_worklet.mjs", import.meta.url);
const QUIETEST = -60; // dB below full scale that a level meter shows
const SOUND = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const REMEDIES = {
    NotAllowedError: "Allow this page to use the microphone, in the browser's address bar.",
    NotFoundError: "Connect a microphone: the browser finds none.",
    NotReadableError: "Close the other program that uses the microphone.",
};

export class Microphone {
    #context = null;
    #stream = null;
    #release = null; // lets another tab use it
    #closed = false;

    /** `name` is its purpose, which one tab of a browser has at a time; `hear` is given each piece (ArrayBuffer), and
     *  `lost` is called when it is unplugged. */
    constructor(name, hear, lost) {
        this.name = `liveavatar-microphone-${name}`;
        this.hear = hear;
        this.lost = lost;
    }

    /** Begin to hear. An Error says in one sentence what to do. */
    async open() {
        if (!navigator.mediaDevices) throw new Error("Open this page by https or from localhost to use the microphone.");
        this.#release = await onlyOne(this.name);
        if (this.#closed) return this.close();
        this.#stream = await navigator.mediaDevices.getUserMedia({ audio: SOUND }).catch((error) => {
            throw new Error(REMEDIES[error.name] ?? error.message);
        });
        if (this.#closed) return this.close();
        const source = sourceOf(this.#stream);
        this.#context = source.context;
        await source.context.audioWorklet.addModule(WORKLET);
        if (this.#closed) return this.close();
        const pieces = new AudioWorkletNode(source.context, "liveavatar-pieces", {
            numberOfOutputs: 0,
            channelCount: 1,
            channelCountMode: "explicit",
        });
        pieces.port.onmessage = ({ data }) => this.#closed || this.hear(data);
        source.connect(pieces);
        this.#stream.getTracks()[0].addEventListener("ended", () => this.#closed || this.lost());
        await source.context.resume();
    }

    /** Whether it gives silence. */
    set muted(value) {
        for (const track of this.#stream?.getTracks() ?? []) track.enabled = !value;
    }

    close() {
        this.#closed = true;
        this.#stream?.getTracks().forEach((track) => track.stop());
        this.#context?.close().catch(() => {}); // closed before
        this.#release?.();
    }
}

/** How loud a piece is, from 0 to 1 on a scale of decibels. */
export function level(piece) {
    const samples = new Int16Array(piece);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length / 32768 ** 2;
    return Math.max(0, 1 - (10 * Math.log10(power + 1e-12)) / QUIETEST);
}

/** A node that gives what a stream hears, at the rate of the pieces where the browser converts it by itself. */
function sourceOf(stream) {
    const wanted = new AudioContext({ sampleRate: RATE });
    try {
        return wanted.createMediaStreamSource(stream);
    } catch {
        wanted.close(); // Firefox: the worklet converts. What the lower rate cannot carry is taken out before.
    }
    const context = new AudioContext();
    return [1, 2].reduce(
        (before) => before.connect(new BiquadFilterNode(context, { type: "lowpass", frequency: 0.42 * RATE })),
        context.createMediaStreamSource(stream),
    );
}

/** A function that gives the name back to other tabs; an Error while one of them has it. A tab that has just been closed
    gives it back a moment later. */
function onlyOne(name) {
    return new Promise((resolve, reject) => {
        const take = () => new Promise((release) => resolve(release));
        navigator.locks.request(name, { signal: AbortSignal.timeout(LOCK_MS) }, take).catch((error) => {
            const taken = error.name === "TimeoutError" || error.name === "AbortError";
            reject(taken ? new Error("Turn off the microphone in the other tab to speak here.") : error);
        });
    });
}
