// Draws trees that turn. `show(place, figure)` draws one. A browser holds only a few at a time: `hide` gives one back.
const turning = {
  options: {displaylogo: false, responsive: true, scrollZoom: true, displayModeBar: true},

  show(place, figure) {
    const spin = {name: "Turn by itself", icon: Plotly.Icons["3d_rotate"], click: turning.spin};
    const buttons = [["toImage", "orbitRotation", "pan3d", "resetCameraDefault3d", spin]];
    return Plotly.newPlot(place, figure.data, figure.layout, {...turning.options, modeBarButtons: buttons});
  },

  hide(place) {
    place.isSpinning = false;
    Plotly.purge(place);
  },

  // Turns around the image's y axis until it is clicked again.
  spin(place) {
    place.isSpinning = !place.isSpinning;
    let before = performance.now();
    const step = now => {
      if (!place.isSpinning || !place.layout) return;
      const angle = (now - before) / 4000;
      before = now;
      const camera = structuredClone(place.layout.scene.camera), {x, z} = camera.eye;
      camera.eye.x = x * Math.cos(angle) - z * Math.sin(angle);
      camera.eye.z = x * Math.sin(angle) + z * Math.cos(angle);
      Plotly.relayout(place, {"scene.camera": camera}).then(() => requestAnimationFrame(step));
    };
    requestAnimationFrame(step);
  },
};
