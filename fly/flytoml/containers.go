package flytoml

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	fly "github.com/superfly/fly-go"
)

// mergeMachineConfig merges machine_config into a machine's config and marks
// the container that runs our image.
func (c *Config) mergeMachineConfig(config object) error {
	if c.machineConfig == "" {
		return nil
	}
	doc, ok := c.machineConfigDoc()
	if !ok {
		return c.missingContent(c.machineConfig)
	}
	machineConfig, err := decodeMachineConfig(doc)
	if err != nil {
		return c.Problem(c.machineConfigKey, "%v", err)
	}
	if err := c.fillContainerFiles(machineConfig); err != nil {
		return err
	}
	mergeObject(config, machineConfig)
	return c.selectContainer(config)
}

// machineConfigDoc returns the JSON of machine_config, inline or from its file.
func (c *Config) machineConfigDoc() (doc []byte, ok bool) {
	if strings.HasPrefix(c.machineConfig, "{") {
		return []byte(c.machineConfig), true
	}
	doc, ok = c.localContent[c.machineConfig]
	return doc, ok
}

// decodeMachineConfig validates that doc is a machine config. It keeps unknown
// fields.
func decodeMachineConfig(doc []byte) (object, error) {
	if err := json.Unmarshal(doc, new(fly.MachineConfig)); err != nil {
		return nil, fmt.Errorf("not a machine config in JSON: %w", err)
	}
	return decodeObject(doc)
}

// containerFiles returns the local files that machine_config names.
func (c *Config) containerFiles() (names []string) {
	doc, _ := c.machineConfigDoc()
	config, err := decodeMachineConfig(doc)
	if err != nil {
		return nil // reported by mergeMachineConfig
	}
	for _, f := range filesOfContainers(config) {
		if name := containerFileName(f); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// fillContainerFiles sets the content of local files in the containers that
// name them.
func (c *Config) fillContainerFiles(config object) error {
	for _, f := range filesOfContainers(config) {
		if name := containerFileName(f); name != "" {
			content, ok := c.localContent[name]
			if !ok {
				return c.missingContent(name)
			}
			f["raw_value"] = base64.StdEncoding.EncodeToString(content)
		}
		delete(f, "local_path")
	}
	return nil
}

func (c *Config) missingContent(name string) error {
	return fmt.Errorf("%s: the content of %s is missing: pass it to WithFiles", c.file, name)
}

// containerFileName returns the local file whose content belongs into a
// container's file; "" if the file has another content.
func containerFileName(f object) string {
	if f["raw_value"] != nil || f["secret_name"] != nil {
		return ""
	}
	name, _ := f["local_path"].(string)
	return name
}

func filesOfContainers(config object) (files []object) {
	for _, container := range objectList(config["containers"]) {
		files = append(files, objectList(container["files"])...)
	}
	return files
}

// objectList returns the objects in a list.
func objectList(v any) (out []object) {
	list, _ := v.([]any)
	for _, v := range list {
		if o, ok := v.(object); ok {
			out = append(out, o)
		}
	}
	return out
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
			return c.Problem(c.machineConfigKey, "containers[%d] is not an object", i)
		}
		if container["name"] == name && ours < 0 {
			ours = i
		}
	}
	if ours < 0 && c.container != "" {
		return c.Problem("container", "machine_config has no container %q", c.container)
	}
	for i, v := range containers {
		container, _ := v.(object)
		if i == max(ours, 0) {
			container["image"] = "."
		} else if container["image"] == nil || container["image"] == "" {
			return c.Problem(c.machineConfigKey, "container %v has no image", container["name"])
		}
	}
	return nil
}

// setContainerImages replaces "." in machine_config by our image.
func setContainerImages(config object, image string) {
	pin := func(o object, key string) {
		if o[key] == "." {
			o[key] = image
		}
	}
	for _, container := range objectList(config["containers"]) {
		pin(container, "image")
	}
	for _, file := range append(objectList(config["files"]), filesOfContainers(config)...) {
		pin(file, "image_config")
	}
}
