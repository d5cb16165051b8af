// How a live player looks.

export const STYLE = `
.liveavatar-player { display: flex; flex-direction: column; gap: 4px; font: 12px sans-serif; height: 100%;
    min-height: 280px; color: var(--input-text, #ddd); overflow: hidden; }
.liveavatar-player .screen { flex: 1; min-height: 0; position: relative; }
.liveavatar-player video { position: absolute; width: 100%; height: 100%; background: #000; border-radius: 4px; }
.liveavatar-player :is(.progress, .figures) { line-height: 1.2; font-variant-numeric: tabular-nums; }
.liveavatar-player .progress { min-height: 1.2em; }
.liveavatar-player .controls { display: flex; gap: 6px; min-height: 24px; }
.liveavatar-player button, .liveavatar-player a { font: inherit; padding: 3px 10px; border-radius: 4px;
    border: 1px solid var(--border-color, #555); background: var(--comfy-input-bg, #222); color: inherit;
    cursor: pointer; text-decoration: none; }
.liveavatar-player button[aria-pressed="true"] { background: var(--input-text, #ddd); color: var(--comfy-input-bg, #222); }
.liveavatar-player button[aria-expanded] { margin-left: auto; }
.liveavatar-player [hidden] { display: none; }
.lg-node-widgets:has(.liveavatar-player) ~ :is(img, img + div, :has(img, video, .lg-node-content)) {
    display: none; }
`; // The last rule: in Nodes 2.0 the page puts the newest frame and the finished file below the player that shows both.
