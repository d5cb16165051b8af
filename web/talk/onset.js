// Tells from the microphone's pieces that somebody begins to speak, before the server can say so.

const PIECES = 4; // so many loud ones in a row, 80 ms
const DECIBEL = 1 / 60; // on the scale of levels, 0 to 1
const ABOVE = 12 * DECIBEL; // the quietest of the last seconds,
const LEAST = 15 * DECIBEL; // and -45 dB of full scale at least
const RISE = 0.06 * DECIBEL; // by which the background may grow with a piece, 3 dB a second
const FALL = 0.02 * DECIBEL; // and the bar falls, 1 dB a second
const HIGHER = 6 * DECIBEL; // than what was no speech

export class Onset {
    #background = 0;
    #bar = LEAST; // what is louder counts
    #loudest = 0; // of the pieces in a row,
    #count = 0; // and how many there are

    /** Whether speech begins with this piece; `level` is how loud it is, from 0 to 1. */
    hear(level) {
        const loud = level > Math.max(this.#background + ABOVE, this.#bar);
        this.#background = Math.min(level, this.#background + RISE);
        this.#bar = Math.max(LEAST, this.#bar - FALL);
        this.#count = loud ? this.#count + 1 : 0;
        if (loud) this.#loudest = this.#count > 1 ? Math.max(level, this.#loudest) : level;
        return this.#count === PIECES;
    }

    /** It was no speech, maybe the avatar's own voice: only what is louder counts for a while. */
    wrong() {
        this.#bar = this.#loudest + HIGHER;
    }
}
