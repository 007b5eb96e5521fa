package flytoml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// An object is a JSON object whose numbers are as they were written.
type object = map[string]any

func decode(doc []byte) (object, error) {
	var o object
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	if o == nil {
		o = object{}
	}
	return o, nil
}

// encode writes the canonical form: keys sorted, no white space.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func toObject(v any) (object, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return decode(doc)
}

// same compares what was decoded. Neither may hold anything but JSON.
func same(a, b object) bool {
	x, errX := encode(a)
	y, errY := encode(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func clone(o object) object { return cloneAny(o).(object) }

func cloneAny(v any) any {
	switch v := v.(type) {
	case object:
		out := make(object, len(v))
		for key, value := range v {
			out[key] = cloneAny(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = cloneAny(value)
		}
		return out
	}
	return v
}

// replace makes dst's key what src has, or absent.
func replace(dst, src object, key string) {
	if v, ok := src[key]; ok {
		dst[key] = v
	} else {
		delete(dst, key)
	}
}

// child is the object at key, made if there is none.
func child(o object, key string) object {
	c, ok := o[key].(object)
	if !ok {
		c = object{}
		o[key] = c
	}
	return c
}

// merge lays src over dst: objects key by key, anything else whole.
func merge(dst, src object) {
	for key, v := range src {
		if s, ok := v.(object); ok {
			if d, ok := dst[key].(object); ok {
				merge(d, s)
				continue
			}
		}
		dst[key] = cloneAny(v)
	}
}

// mergeMachineConfig lays machine_config over a machine's config and marks the
// container that runs our image.
func (c *Config) mergeMachineConfig(config object) error {
	if c.machineConfig == "" {
		return nil
	}
	doc := []byte(c.machineConfig)
	if !strings.HasPrefix(c.machineConfig, "{") {
		content, ok := c.local[c.machineConfig]
		if !ok {
			return fmt.Errorf("%s: the content of %s is not known here", c.file, c.machineConfig)
		}
		doc = content
	}
	said, err := decode(doc)
	if err != nil {
		return fmt.Errorf("%s: machine_config is not JSON: %w", c.file, err)
	}
	merge(config, said)
	return c.selectContainer(config)
}

func (c *Config) selectContainer(config object) error {
	containers, _ := config["containers"].([]any)
	if len(containers) == 0 {
		return nil
	}
	name := c.container
	if name == "" {
		name = DefaultGroup
	}
	ours := -1
	for i, v := range containers {
		container, ok := v.(object)
		if !ok {
			return fmt.Errorf("%s: machine_config: containers[%d] is not an object", c.file, i)
		}
		if container["name"] == name && ours < 0 {
			ours = i
		}
	}
	if ours < 0 && c.container != "" {
		return fmt.Errorf("%s: container: machine_config has no container %q", c.file, c.container)
	}
	for i, v := range containers {
		container, _ := v.(object)
		if i == max(ours, 0) {
			container["image"] = "."
		} else if container["image"] == nil || container["image"] == "" {
			return fmt.Errorf("%s: machine_config: container %v has no image", c.file, container["name"])
		}
	}
	return nil
}

// pinContainers puts our image where machine_config says ".".
func pinContainers(config object, image string) {
	pin := func(o object, key string) {
		if o[key] == "." {
			o[key] = image
		}
	}
	pinFiles := func(o object) {
		files, _ := o["files"].([]any)
		for _, v := range files {
			if file, ok := v.(object); ok {
				pin(file, "image_config")
			}
		}
	}
	pinFiles(config)
	containers, _ := config["containers"].([]any)
	for _, v := range containers {
		if container, ok := v.(object); ok {
			pin(container, "image")
			pinFiles(container)
		}
	}
}
