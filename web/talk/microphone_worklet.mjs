// Cuts what a microphone hears into pieces of 20 ms, as 16-bit samples at 24 kHz. No ".js": the page runs every file
// with that ending itself.

const RATE = 24_000;
const SAMPLES = 480;

class Pieces extends AudioWorkletProcessor {
    #piece = new Int16Array(SAMPLES);
    #filled = 0;
    #place = 0; // of the next sample, in samples of the input after the one before this call's first
    #before = 0; // that one

    process([[input]]) {
        if (!input) return true; // the microphone is not connected yet
        for (; this.#place < input.length; this.#place += sampleRate / RATE) {
            const next = Math.floor(this.#place);
            const from = next ? input[next - 1] : this.#before;
            this.#put(from + (input[next] - from) * (this.#place - next));
        }
        this.#place -= input.length;
        this.#before = input.at(-1);
        return true;
    }

    #put(sample) {
        this.#piece[this.#filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
        if (this.#filled < SAMPLES) return;
        this.port.postMessage(this.#piece.buffer, [this.#piece.buffer]);
        this.#piece = new Int16Array(SAMPLES);
        this.#filled = 0;
    }
}

registerProcessor("liveavatar-pieces", Pieces);
